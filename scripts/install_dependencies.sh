#!/bin/sh
# Installs what Fovea is built from, on Debian and Ubuntu, Fedora, and Arch. What is there already is left alone; when
# nothing is missing the script does nothing and needs no rights.
#
#   scripts/install_dependencies.sh              compiler and libraries: enough for `make` and `make install`
#   scripts/install_dependencies.sh --test       and cmocka, for `make check`
#   scripts/install_dependencies.sh --full       and valgrind and clang, for `make check-full`
#   scripts/install_dependencies.sh --arm        and a cross compiler and QEMU, for scripts/check_arm.sh
#   --dry-run                                    prints the command instead of running it
set -u

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "$0"; }

wanted=build
dry_run=
for option; do
    case $option in
        --test) wanted="build test" ;;
        --full) wanted="build test full" ;;
        --arm) wanted="build test full arm" ;;
        --dry-run) dry_run=yes ;;
        -h | --help) usage && exit 0 ;;
        *) usage >&2 && exit 2 ;;
    esac
done

# A row: when it is needed; how its presence is checked; its packages for apt, dnf and pacman.
rows='
build  command:gcc          gcc                gcc                 gcc
build  compiles:stdio.h     libc6-dev          glibc-devel         glibc
build  command:make         make               make                make
build  command:pkg-config   pkg-config         pkgconf-pkg-config  pkgconf
build  hdf5:                libhdf5-dev        hdf5-devel          hdf5
build  module:libpng        libpng-dev         libpng-devel        libpng
build  module:libturbojpeg  libturbojpeg0-dev  turbojpeg-devel     libjpeg-turbo
build  module:zlib          zlib1g-dev         zlib-devel          zlib
build  module:libzip        libzip-dev         libzip-devel        libzip
build  module:jansson       libjansson-dev     jansson-devel       jansson
test   module:cmocka        libcmocka-dev      libcmocka-devel     cmocka
full   command:valgrind     valgrind           valgrind            valgrind
full   command:clang        clang              clang               clang
full   clang-openmp:        libomp-dev         libomp-devel        openmp
arm    command:aarch64-linux-gnu-gcc  gcc-aarch64-linux-gnu  gcc-aarch64-linux-gnu  aarch64-linux-gnu-gcc
arm    command:qemu-aarch64           qemu-user              qemu-user              qemu-user
'

compiles() { echo "#include <$1>" | "${2:-gcc}" ${3:+"$3"} -x c -fsyntax-only - 2>/dev/null; }

present() { # a check of the table
    case $1 in
        command:*) command -v "${1#*:}" >/dev/null 2>&1 ;;
        module:*) pkg-config --exists "${1#*:}" 2>/dev/null ;;
        compiles:*) compiles "${1#*:}" ;;
        # Fedora's HDF5 has no file for pkg-config and lies where the compiler looks by itself.
        hdf5:) pkg-config --exists hdf5 2>/dev/null || pkg-config --exists hdf5-serial 2>/dev/null || compiles hdf5.h ;;
        clang-openmp:) compiles omp.h clang -fopenmp ;;
    esac
}

missing() { # prints column $1 of the rows that are wanted and not there
    printf '%s\n' "$rows" | while read -r when check apt dnf pacman; do
        case " $wanted " in *" ${when:-none} "*) ;; *) continue ;; esac
        present "$check" && continue
        case $1 in
            apt) echo "$apt" ;;
            dnf) echo "$dnf" ;;
            pacman) echo "$pacman" ;;
        esac
    done | tr '\n' ' '
}

if [ "$(uname -s)" != Linux ]; then
    echo "install_dependencies: $(uname -s) is not supported; Fovea is built on Linux (a Linux container or virtual machine will do)" >&2
    exit 1
fi

[ -z "$(missing apt)" ] && exit 0

if command -v apt-get >/dev/null 2>&1; then
    manager=apt
elif command -v dnf >/dev/null 2>&1; then
    manager=dnf
elif command -v pacman >/dev/null 2>&1; then
    manager=pacman
else
    echo "install_dependencies: no apt-get, dnf or pacman here; install what these packages of Debian hold: $(missing apt)" >&2
    exit 1
fi
packages=$(missing $manager)

sudo=
if [ "$(id -u)" -ne 0 ]; then
    sudo=sudo
    if [ -z "$dry_run" ] && ! command -v sudo >/dev/null 2>&1; then
        echo "install_dependencies: run this as root, or install: $packages" >&2
        exit 1
    fi
fi

run() {
    if [ -n "$dry_run" ]; then
        echo "$*"
    else
        "$@" </dev/null
    fi
}

echo "install_dependencies: missing: $packages" >&2
# shellcheck disable=SC2086 # $packages is a list of words, $sudo none or one
case $manager in
    apt)
        apt_install() {
            run $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $packages
        }
        # The lists of packages are fetched where there are none, and again where they turn out to be old.
        apt-cache show $packages >/dev/null 2>&1 || run $sudo apt-get update -q
        apt_install || { run $sudo apt-get update -q && apt_install; }
        ;;
    dnf) run $sudo dnf install -y $packages ;;
    pacman) run $sudo pacman -S --needed --noconfirm $packages ;;
esac
[ -n "$dry_run" ] && exit 0

still=$(missing $manager)
if [ -n "$still" ]; then
    echo "install_dependencies: still missing: $still" >&2
    exit 1
fi
