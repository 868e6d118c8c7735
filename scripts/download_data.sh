#!/bin/sh
# Fetches a public data set, verified by its SHA-256, into the layout that the library searches.
#
#   scripts/download_data.sh mnist|fashion|cifar10 [DIR]
#
# Looks first in DIR, $FOVEA_DATA and ${XDG_CACHE_HOME:-~/.cache}/fovea, and does nothing where the files are there and verify.
# Otherwise downloads into the first of the three that is given. Without a network it gives up within ten seconds.
# On success the folder that holds the data is the only line on standard output; messages go to standard error.
# Exit status: 0 the data are there, 1 they are not to be had, 2 usage.
set -u

say() { echo "download_data: $*" >&2; }

# ---- what there is: name, SHA-256, SHA-256 of the same file uncompressed (- if it is not kept so) --------------------------------

mnist_files='
train-images-idx3-ubyte.gz 440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609 ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db
train-labels-idx1-ubyte.gz 3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c 65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5
t10k-images-idx3-ubyte.gz  8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6 0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7
t10k-labels-idx1-ubyte.gz  f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6 ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2
'
fashion_files='
train-images-idx3-ubyte.gz 3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84 -
train-labels-idx1-ubyte.gz a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845 -
t10k-images-idx3-ubyte.gz  346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073 -
t10k-labels-idx1-ubyte.gz  67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5 -
'
cifar10_files='
data_batch_1.bin cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5 -
data_batch_2.bin a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed -
data_batch_3.bin bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67 -
data_batch_4.bin 014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48 -
data_batch_5.bin 755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add -
test_batch.bin   8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b -
'
# CIFAR-10 comes as one archive, which unpacks to the folder below and is not kept.
cifar10_archive=cifar-10-binary.tar.gz
cifar10_archive_sum=c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd

case ${1:-} in
    mnist)
        files=$mnist_files folder=mnist other_folders="MNIST/raw ."
        mirrors="https://ossci-datasets.s3.amazonaws.com/mnist https://storage.googleapis.com/cvdf-datasets/mnist"
        ;;
    fashion)
        files=$fashion_files folder=fashion-mnist other_folders="FashionMNIST/raw ."
        mirrors="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com
                 https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
        ;;
    cifar10)
        files=$cifar10_files folder=cifar-10-batches-bin other_folders=.
        mirrors="https://www.cs.toronto.edu/~kriz https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10"
        ;;
    *)
        sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "$0" >&2
        exit 2
        ;;
esac
set_name=$1

# ---- verifying -----------------------------------------------------------------------------------------------------------------------

sum() {
    if command -v sha256sum >/dev/null 2>&1; then sha256sum <"$1"; else openssl dgst -sha256 -r <"$1"; fi | cut -d ' ' -f 1
}

verifies() { [ -f "$1" ] && [ "$(sum "$1")" = "$2" ]; }

has_all() { # does folder $1 hold every file, packed or not?
    printf '%s\n' "$files" | while read -r name packed unpacked; do
        [ -z "$name" ] && continue
        verifies "$1/$name" "$packed" || verifies "$1/${name%.gz}" "$unpacked" || exit 1
    done
}

cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/fovea
destination=${2:-${FOVEA_DATA:-$cache}}
for root in "$destination" "${FOVEA_DATA:-$cache}" "$cache"; do
    for place in $folder $other_folders; do
        if has_all "$root/$place"; then
            say "$set_name is already in $root/$place"
            echo "$root"
            exit 0
        fi
    done
done

# ---- fetching ----------------------------------------------------------------------------------------------------------------------

# Four seconds to reach a mirror, so that two dead ones take less than ten; later a transfer may stall for twenty.
if command -v curl >/dev/null 2>&1; then
    fetch() { curl -fsSL --connect-timeout 4 --speed-limit 1000 --speed-time 20 -o "$2" "$1"; }
elif command -v wget >/dev/null 2>&1; then
    fetch() { wget -q --tries=1 --dns-timeout=4 --connect-timeout=4 --read-timeout=20 -O "$2" "$1"; }
else
    say "needs curl or wget"
    exit 1
fi

mkdir -p "$destination/$folder" || exit 1
part=$destination/$folder/.download.$$
trap 'rm -f "$part"; rmdir "$destination/$folder" 2>/dev/null' EXIT
trap 'exit 130' INT TERM

obtain() { # obtain NAME SUM: into $part, from the first mirror that has it right; that mirror is asked first from then on
    for mirror in $mirrors; do
        say "fetching $mirror/$1"
        fetch "$mirror/$1" "$part" || continue
        if verifies "$part" "$2"; then
            mirrors="$mirror $(echo "$mirrors" | tr -s "[:space:]" "\n" | grep -vxF "$mirror")"
            return 0
        fi
        say "$mirror/$1 is not the file it should be (SHA-256 differs)"
    done
    say "$set_name is not to be had from here"
    return 1
}

if [ "$set_name" = cifar10 ]; then
    obtain "$cifar10_archive" "$cifar10_archive_sum" || exit 1
    tar -xzf "$part" -C "$destination" || exit 1
    chmod -R u+w "$destination/$folder"
else
    # A here-document, not a pipe: the loop must be able to leave the script.
    while read -r name packed unpacked; do
        [ -z "$name" ] && continue
        verifies "$destination/$folder/$name" "$packed" && continue
        obtain "$name" "$packed" || exit 1
        mv "$part" "$destination/$folder/$name" || exit 1
    done <<END
$files
END
fi

if ! has_all "$destination/$folder"; then
    say "the files in $destination/$folder do not verify"
    exit 1
fi
say "$set_name is in $destination/$folder"
echo "$destination"
