# Fovea: build, test, install. `make help` lists the targets and the variables.
#
# Sources are found by wildcards, so a new file needs no entry here:
#   src/*/*.c              the library                    compiled once
#   src/cpu/*.c            the fast kernels               compiled once per instruction set (FV_ISA names it)
#   src/cpu/reference/*.c  the reference kernels          compiled for float and for double (REAL)
#   src/tool/*.c           the command `fovea`            linked with the shared library
#   examples/*.c           a program each                 linked with options.c and the shared library
#   tests/test_*.c         a test program each            linked with support/*.c and the static library
#   tests/*.sh             a test each, if executable
#
# Objects go to build/obj/<hash of the compiler and its flags>/, so that changing a flag never mixes objects and
# changing it back costs nothing. Products go to build/bin and build/lib; those of debug, sanitizer and coverage builds
# to build/<variant>/bin and build/<variant>/lib.

# ---- settings --------------------------------------------------------------------------------------------------------

prefix     ?= /usr/local
PREFIX     ?= $(prefix)
BINDIR     ?= $(PREFIX)/bin
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DESTDIR    ?=
BUILD      ?= build
CUDA       ?= auto

PKG_CONFIG ?= pkg-config
INSTALL    ?= install
ifeq ($(origin CC),default)
CC := gcc
endif

# Files of the two kernel folders that are compiled like any other.
CPU_ONCE       ?= $(wildcard src/cpu/backend.c src/cpu/group.c)
REFERENCE_ONCE ?= $(wildcard src/cpu/reference/backend.c)

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: all tests emulated check check-quick check-full coverage bench docs install uninstall quickstart format help clean dist-clean FORCE

comma := ,
empty :=
space := $(empty) $(empty)

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-4s %s\n' $1 $2;)

# The header says the version.
version_part = $(shell sed -n 's/^.define FV_VERSION_$1 *\([0-9][0-9]*\).*/\1/p' include/fovea.h)
MAJOR   := $(call version_part,MAJOR)
MINOR   := $(call version_part,MINOR)
PATCH   := $(call version_part,PATCH)
VERSION := $(MAJOR).$(MINOR).$(PATCH)

# ---- what this machine has -------------------------------------------------------------------------------------------

# These need neither a compiler nor a library, so nothing is looked for.
NO_PROBE := help format clean dist-clean uninstall quickstart check-full coverage
ifneq ($(filter-out $(NO_PROBE),$(or $(MAKECMDGOALS),all)),)

CC_VERSION := $(shell $(CC) --version 2>/dev/null | head -n 1)
ifeq ($(CC_VERSION),)
$(error the C compiler '$(CC)' does not run; scripts/install_dependencies.sh installs gcc)
endif
MACHINE := $(shell $(CC) -dumpmachine)

# Does a program that includes header $1 link with the flags $2?
links = $(shell printf '\043include <%s>\nint main(void) { return 0; }\n' $1 | \
                $(CC) -x c - -o /dev/null $2 >/dev/null 2>&1 && echo yes)

# HDF5 has two names, and on Fedora none: there the compiler finds it without help.
HDF5    := $(or $(shell for m in hdf5 hdf5-serial; do $(PKG_CONFIG) --exists $$m 2>/dev/null && echo $$m && break; done),\
                $(if $(call links,hdf5.h,-lhdf5),-lhdf5),hdf5)
MODULES := $(filter-out -l%,$(HDF5)) libpng libturbojpeg zlib libzip jansson
MISSING := $(shell for m in $(MODULES); do $(PKG_CONFIG) --exists $$m 2>/dev/null || echo $$m; done)
ifneq ($(MISSING),)
$(error not found with '$(PKG_CONFIG)': $(MISSING); scripts/install_dependencies.sh installs what is missing)
endif
# Warnings in other people's headers are not ours to repair, so their folders become system folders.
DEP_CFLAGS := $(patsubst -I%,-isystem %,$(shell $(PKG_CONFIG) --cflags $(MODULES)))
DEP_LIBS   := $(shell $(PKG_CONFIG) --libs $(MODULES)) $(filter -l%,$(HDF5))
VERSIONS   := $(shell for m in $(MODULES); do echo $$m `$(PKG_CONFIG) --modversion $$m`; done)

CMOCKA_CFLAGS := $(shell $(PKG_CONFIG) --cflags cmocka 2>/dev/null)
CMOCKA_LIBS   := $(shell $(PKG_CONFIG) --libs cmocka 2>/dev/null)

OPENMP := $(if $(call links,omp.h,-fopenmp),-fopenmp)

# The GPU backend is a plugin of its own, built only where there is a toolkit.
ifneq ($(CUDA),0)
NVCC ?= $(firstword $(wildcard $(addsuffix /bin/nvcc,$(CUDA_HOME) $(CUDA_PATH))) $(shell command -v nvcc) \
                    $(wildcard /usr/local/cuda/bin/nvcc))
ifeq ($(CUDA)$(NVCC),1)
$(error CUDA=1, but there is no nvcc: set NVCC, CUDA_HOME or CUDA_PATH, or build with CUDA=0)
endif
endif
CUDA_ROOT := $(if $(NVCC),$(or $(CUDA_HOME),$(CUDA_PATH),$(patsubst %/bin/,%,$(dir $(NVCC)))))
# A toolkit without cuDNN builds neither the plugin nor its emulated twin.
ifneq ($(NVCC),)
ifeq ($(call links,cudnn.h,-isystem $(CUDA_ROOT)/include),)
ifeq ($(CUDA),1)
$(error CUDA=1, but $(CUDA_ROOT)/include has no cudnn.h: install cuDNN 9 there, or build with CUDA=0)
endif
NO_CUDNN := $(NVCC) without cuDNN: no GPU backend
NVCC :=
endif
endif
# The plugin is built for the GPU of this machine; with CUDA=1, GPU or not, for the first architecture of each generation that nvcc knows (code for
# X.0 runs on every X.y) with PTX for those to come. Its emulated twin, for tests, needs the toolkit only.
ifneq ($(NVCC),)
GPU_HERE   := $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d .)
BUILD_CUDA := $(or $(filter 1,$(CUDA)),$(GPU_HERE))
ifeq ($(CUDA),1)
CUDA_ARCH ?= $(shell $(NVCC) --list-gpu-arch | awk -F_ '{ g = int($$2 / 10); if (!(g in first) || $$2 < first[g]) first[g] = $$2 } \
                                                        END { for (g in first) print first[g] }' | sort -n)
endif
CUDA_ARCH ?= $(or $(GPU_HERE),90)
endif
CUDA_STATE := $(if $(filter 0,$(CUDA)),switched off,$(if $(NVCC),$(NVCC)$(if $(BUILD_CUDA), for $(strip $(CUDA_ARCH)),; no GPU here: CUDA=1 builds the plugin),$(or $(NO_CUDNN),no nvcc)))

endif

# ---- flags -----------------------------------------------------------------------------------------------------------

# Optimisation belongs to the user: CFLAGS, CPPFLAGS and LDFLAGS may be set freely, the flags of this section stay.
ifdef DEBUG
CFLAGS     ?= -Og -g3
KERNEL_OPT := -Og
MODE_FLAGS := -DFV_DEBUG=1
VARIANT    := debug
else ifdef COVERAGE
CFLAGS     ?= -O0 -g
KERNEL_OPT := -O1
else ifdef SANITIZE
CFLAGS     ?= -O1 -g
KERNEL_OPT := -O1
else
CFLAGS     ?= -O2 -g
KERNEL_OPT := -O3
endif

ifdef SANITIZE
MODE_FLAGS += -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer
MODE_LINK  += -fsanitize=$(SANITIZE)
VARIANT    += $(or $(if $(findstring address,$(SANITIZE)),asan),$(if $(findstring thread,$(SANITIZE)),tsan),\
                   $(subst $(comma),-,$(SANITIZE)))
else
# An undefined symbol in the library is an error here, not at the user's. (A sanitizer's own are in the program.)
NO_UNDEFINED := -Wl,-z,defs
endif
ifdef COVERAGE
MODE_FLAGS += --coverage
MODE_LINK  += --coverage
VARIANT    += coverage
endif

WARNINGS := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wpointer-arith -Wwrite-strings -Wvla \
            -Wno-unused-parameter -Wno-missing-field-initializers $(if $(WERROR),-Werror)
LANGUAGE := -std=gnu11 -fPIC -fvisibility=hidden -fno-math-errno $(or $(OPENMP),-Wno-unknown-pragmas)
COMMON   := $(LANGUAGE) $(WARNINGS) $(MODE_FLAGS) $(CPPFLAGS) $(CFLAGS) -MMD -MP

# Outside the fast kernels a * b + c is rounded twice everywhere, so the reference gives the same bits on every machine.
EXACT  := -ffp-contract=off
# The fast kernels may contract, but never reorder: a sum is taken in the order the source says, whatever the compiler
# and the number of threads. (Vectors wider than the baseline stay within one file, so their ABI is no concern: psabi.)
KERNEL := $(KERNEL_OPT) -ffp-contract=fast -Wno-psabi

ISAS ?= $(if $(filter x86_64-%,$(MACHINE)),v2 v3 v4,$(if $(filter aarch64-%,$(MACHINE)),neon,generic))
MARCH_v2 := -march=x86-64-v2
MARCH_v3 := -march=x86-64-v3
MARCH_v4 := -march=x86-64-v4 -mprefer-vector-width=512

INCLUDES         := -Iinclude -Isrc $(DEP_CFLAGS)
EXAMPLE_INCLUDES := -Iinclude -Iexamples
TEST_INCLUDES    := -Itests $(INCLUDES) $(CMOCKA_CFLAGS)

# ---- where things go -------------------------------------------------------------------------------------------------

OUT  := $(BUILD)$(if $(VARIANT),/$(subst $(space),-,$(strip $(VARIANT))))
BIN  := $(OUT)/bin
LIB  := $(OUT)/lib

hash = $(firstword $(shell printf '%s' '$(subst ','\'',$1)' | cksum))
OBJ := $(BUILD)/obj/$(call hash,$(CC) $(CC_VERSION) $(COMMON) $(EXACT) $(KERNEL) $(foreach i,$(ISAS),$(MARCH_$i)) \
                                $(TEST_INCLUDES))

SONAME := libfovea.so.$(MAJOR)
SHARED := $(LIB)/libfovea.so.$(VERSION)
STATIC := $(LIB)/libfovea.a

# Programs find the library beside them, in the build folder and after `make install`, wherever that is moved to.
LIBDIR_NAME := $(patsubst $(PREFIX)/%,%,$(filter $(PREFIX)/%,$(LIBDIR)))
RPATH       := -Wl,-rpath,'$$ORIGIN/../lib$(addprefix :$$ORIGIN/../,$(filter-out lib,$(LIBDIR_NAME)))'

# ---- sources and objects ---------------------------------------------------------------------------------------------

objects = $(patsubst %.c,$(OBJ)/%.o,$1)

ONCE_SRC      := $(filter-out src/cpu/% src/cuda/% src/tool/%,$(wildcard src/*/*.c)) $(CPU_ONCE) $(REFERENCE_ONCE)
KERNEL_SRC    := $(filter-out $(CPU_ONCE),$(wildcard src/cpu/*.c))
REFERENCE_SRC := $(filter-out $(REFERENCE_ONCE),$(wildcard src/cpu/reference/*.c))
EXAMPLE_SRC   := $(filter-out examples/options.c,$(wildcard examples/*.c))
TEST_SRC      := $(wildcard tests/test_*.c)
SHELL_TESTS   := $(shell find tests -maxdepth 1 -name '*.sh' -perm -u+x 2>/dev/null | sort)

LIB_OBJ     := $(call objects,$(ONCE_SRC)) \
               $(foreach isa,$(ISAS),$(KERNEL_SRC:%.c=$(OBJ)/%.$(isa).o)) \
               $(foreach real,float double,$(REFERENCE_SRC:%.c=$(OBJ)/%.$(real).o))
TOOL_OBJ    := $(call objects,$(wildcard src/tool/*.c))
OPTIONS_OBJ := $(call objects,$(wildcard examples/options.c))
SUPPORT_OBJ := $(call objects,$(wildcard tests/support/*.c tests/operations/*.c))
OBJECTS     := $(LIB_OBJ) $(TOOL_OBJ) $(OPTIONS_OBJ) $(SUPPORT_OBJ) $(call objects,$(EXAMPLE_SRC) $(TEST_SRC))

TOOL     := $(if $(TOOL_OBJ),$(BIN)/fovea)
EXAMPLES := $(EXAMPLE_SRC:examples/%.c=$(BIN)/%)
TESTS    := $(TEST_SRC:tests/%.c=$(BIN)/%)

# ---- products --------------------------------------------------------------------------------------------------------

LIBS := $(strip $(DEP_LIBS) -lm -ldl $(OPENMP))
LINK  = $(call say,LINK,$@)mkdir -p $(@D) && $(CC) -o $@ $(MODE_LINK) $(LDFLAGS)

all: $(SHARED) $(STATIC) $(TOOL) $(EXAMPLES) $(if $(BUILD_CUDA),$(LIB)/libfovea-cuda.so)
tests: all $(TESTS) $(if $(NVCC),emulated)

# A folder of products holds one configuration at a time; this file says which. When flags or the list of files change it
# is rewritten, and everything is linked anew from the objects of the new configuration.
STAMP := $(OUT)/configuration
CONFIGURATION := $(OBJ) $(VERSION) $(LDFLAGS) $(MODE_LINK) $(LIBS) $(LIBDIR_NAME) \
                 $(call hash,$(sort $(LIB_OBJ) $(TOOL_OBJ) $(OPTIONS_OBJ) $(SUPPORT_OBJ)))
FOUND := compiler '$(CC_VERSION)' target '$(MACHINE), kernels for $(ISAS)' OpenMP '$(if $(OPENMP),yes,no: one thread)' \
         libraries '$(VERSIONS)' cmocka '$(if $(CMOCKA_LIBS),yes,no: make check needs it)' CUDA '$(CUDA_STATE)' \
         products $(OUT)/bin$(comma)\ $(OUT)/lib
$(STAMP): FORCE
	@mkdir -p $(OUT)
	@printf '%s\n' '$(subst ','\'',$(CONFIGURATION))' | cmp -s - $@ || { printf '%-10s %s\n' $(FOUND); \
	    printf '%s\n' '$(subst ','\'',$(CONFIGURATION))' > $@; }

$(SHARED): $(LIB_OBJ) src/fovea.map $(STAMP)
	$(LINK) -shared $(LIB_OBJ) -Wl,-soname,$(SONAME) -Wl,--version-script=src/fovea.map $(NO_UNDEFINED) \
	    -Wl,--as-needed $(LIBS)
	$(Q)ln -sf $(@F) $(LIB)/$(SONAME) && ln -sf $(SONAME) $(LIB)/libfovea.so

# The tests link this one, because they reach into the library.
$(STATIC): $(LIB_OBJ) $(STAMP)
	$(call say,AR,$@)mkdir -p $(@D) && rm -f $@ && $(AR) rcs $@ $(LIB_OBJ)

$(BIN)/fovea: $(TOOL_OBJ) $(SHARED) $(STAMP)
	$(LINK) $(TOOL_OBJ) -L$(LIB) -lfovea $(RPATH) -Wl,--as-needed $(LIBS)

$(EXAMPLES): $(BIN)/%: $(OBJ)/examples/%.o $(OPTIONS_OBJ) $(SHARED) $(STAMP)
	$(LINK) $< $(OPTIONS_OBJ) -L$(LIB) -lfovea $(RPATH) -Wl,--as-needed -lm

$(TESTS): $(BIN)/%: $(OBJ)/tests/%.o $(SUPPORT_OBJ) $(STATIC) $(STAMP)
	$(LINK) $< $(SUPPORT_OBJ) $(STATIC) $(CMOCKA_LIBS) -Wl,--as-needed $(LIBS)

# ---- objects ---------------------------------------------------------------------------------------------------------

# $1 what to print, $2 the flags of this group of files. The stamp comes first only so that it speaks first.
compile = $(call say,CC,$1)mkdir -p $(@D) && $(CC) $(COMMON) $2 -c -o $@ $<

$(OBJ)/%.o: %.c | $(STAMP)
	$(call compile,$<,$(EXACT) $(INCLUDES))
$(OBJ)/examples/%.o: examples/%.c | $(STAMP)
	$(call compile,$<,$(EXACT) $(EXAMPLE_INCLUDES))
$(OBJ)/tests/%.o: tests/%.c | $(STAMP)
	$(call compile,$<,$(EXACT) $(TEST_INCLUDES))

$(OBJ)/src/cpu/reference/%.float.o: src/cpu/reference/%.c | $(STAMP)
	$(call compile,'$< (float)',$(EXACT) -DREAL=float -DREAL_IS_FLOAT=1 $(INCLUDES))
$(OBJ)/src/cpu/reference/%.double.o: src/cpu/reference/%.c | $(STAMP)
	$(call compile,'$< (double)',$(EXACT) -DREAL=double -DREAL_IS_DOUBLE=1 $(INCLUDES))

define kernel_rule
$(OBJ)/src/cpu/%.$1.o: src/cpu/%.c | $(STAMP)
	$$(call compile,'$$< ($1)',$(KERNEL) -DFV_ISA=$1 $(MARCH_$1) $(INCLUDES))
endef
$(foreach isa,$(ISAS),$(eval $(call kernel_rule,$(isa))))
# `make ISAS=v4` builds the kernels of one set only: quicker while writing them.
$(OBJ)/src/cpu/backend.o: INCLUDES += $(ISAS:%=-DFV_KERNELS_%)

ifneq ($(NVCC),)
include src/cuda/cuda.mk
endif

-include $(OBJECTS:.o=.d)

# ---- tests and measurements ------------------------------------------------------------------------------------------

check: tests
	@FOVEA_BUILD=$(OUT) scripts/run_tests.sh $(TESTS) $(SHELL_TESTS)

check-quick: tests
	@FOVEA_BUILD=$(OUT) FOVEA_QUICK=1 scripts/run_tests.sh $(TESTS)

check-full:
	+@MAKE='$(MAKE)' scripts/check_full.sh $(STAGES)

coverage:
	+@MAKE='$(MAKE)' scripts/coverage.sh

bench: all
	$(BIN)/fovea bench $(ARGS)

# The pages that are the library's own tables.
docs: $(BIN)/fovea
	$(Q)$(BIN)/fovea operations --markdown > docs/operations.md
	$(Q)$(BIN)/fovea layers --markdown > docs/layers.md

quickstart:
	+@MAKE='$(MAKE)' scripts/quickstart.sh

# ---- installation ----------------------------------------------------------------------------------------------------

CMAKEDIR  := $(LIBDIR)/cmake/Fovea
in_prefix  = $(patsubst $(PREFIX)/%,$${prefix}/%,$1)
fill       = sed -e 's|@PREFIX@|$(PREFIX)|g; s|@LIBDIR@|$(call in_prefix,$(LIBDIR))|g' \
                  -e 's|@INCLUDEDIR@|$(call in_prefix,$(INCLUDEDIR))|g; s|@VERSION@|$(VERSION)|g' \
                  -e 's|@MAJOR@|$(MAJOR)|g; s|@LIBS@|$(LIBS)|g; s|@CUDA@|no|g' $1 > $(DESTDIR)$2
# Only a real installation by root can and need tell the loader; a package does it by its own means.
LDCONFIG  := $(if $(DESTDIR),,[ `id -u` -ne 0 ] || ldconfig)

install: $(SHARED) $(TOOL)
	$(INSTALL) -d $(addprefix $(DESTDIR),$(BINDIR) $(LIBDIR)/pkgconfig $(CMAKEDIR) $(INCLUDEDIR))
	$(INSTALL) -m 644 include/fovea.h $(DESTDIR)$(INCLUDEDIR)/
	$(INSTALL) -m 755 $(SHARED) $(DESTDIR)$(LIBDIR)/
	ln -sf $(notdir $(SHARED)) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libfovea.so
	$(if $(TOOL),$(INSTALL) -m 755 $(TOOL) $(DESTDIR)$(BINDIR)/)
	$(call fill,scripts/fovea.pc.in,$(LIBDIR)/pkgconfig/fovea.pc)
	$(call fill,scripts/FoveaConfig.cmake.in,$(CMAKEDIR)/FoveaConfig.cmake)
	$(call fill,scripts/FoveaConfigVersion.cmake.in,$(CMAKEDIR)/FoveaConfigVersion.cmake)
	$(LDCONFIG)

uninstall:
	rm -f $(addprefix $(DESTDIR)$(LIBDIR)/,$(notdir $(SHARED)) $(SONAME) libfovea.so pkgconfig/fovea.pc) \
	    $(DESTDIR)$(BINDIR)/fovea $(DESTDIR)$(INCLUDEDIR)/fovea.h
	rm -rf $(DESTDIR)$(CMAKEDIR)
	$(LDCONFIG)

# ---- housekeeping ----------------------------------------------------------------------------------------------------

# Headers are laid out by hand, as tables; clang-format would take their rows apart.
FILES ?= $(shell find src tests examples -name '*.c' -o -name '*.cu')
format:
	clang-format -i $(FILES)

clean:
	rm -rf $(BUILD)/obj $(BIN) $(LIB) $(OUT)/tests $(STAMP)

dist-clean:
	rm -rf $(BUILD)

help:
	@sed -n 's/^#? \{0,1\}//p' Makefile
#? targets
#?   all                 library, tool and examples (the default)
#?   check               builds all and the tests, runs every test
#?   check-quick         only the test programs, long tests shortened (FOVEA_QUICK=1)
#?   check-full          every instruction set, clang, sanitizers, valgrind; STAGES="..." for some (scripts/check_full.sh)
#?   coverage            lines of the CUDA backend that run in the tests on the emulated GPU (scripts/coverage.sh)
#?   bench               measures kernels and training steps: fovea bench $(ARGS)
#?   docs                writes docs/operations.md and docs/layers.md from the library's tables
#?   quickstart          dependencies, build, MNIST, three epochs of LeNet-5
#?   install, uninstall  library, header, tool, fovea.pc, FoveaConfig.cmake
#?   format              clang-format over all sources but headers, or over FILES="..."
#?   clean, dist-clean   removes the objects and these products; the whole build folder
#? variables
#?   PREFIX=/usr/local   and BINDIR, LIBDIR, INCLUDEDIR below it; DESTDIR goes before all of them
#?   DEBUG=1             for the debugger                        -> build/debug/
#?   SANITIZE=LIST       address,undefined or thread             -> build/asan/, build/tsan/
#?   COVERAGE=1          with counters for gcov                  -> build/coverage/
#?   CUDA=0|1|auto       the GPU backend: never, required, or if there is an nvcc (the default)
#?   WERROR=1            warnings are errors
#?   CC, CFLAGS, CPPFLAGS, LDFLAGS, BUILD=build, V=1 (shows the commands)
