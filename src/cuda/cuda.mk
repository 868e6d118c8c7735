# The CUDA backend, included by the Makefile where there is a toolkit: libfovea-cuda.so, a plugin, and the emulated plugin of the same
# sources for tests on machines without a GPU (tests/cuda).

CUDA_C   := $(wildcard src/cuda/*.c)
CUDA_CU  := $(wildcard src/cuda/*.cu)
CUDA_LIB := $(firstword $(wildcard $(CUDA_ROOT)/lib64 $(CUDA_ROOT)/targets/x86_64-linux/lib $(CUDA_ROOT)/lib))
# Pure parts of the library that the plugin needs: names and checksum of the operations.
CUDA_PURE := $(call objects,src/ops/names.c)

CUDA_INCLUDES := -Iinclude -Isrc -isystem $(CUDA_ROOT)/include
CUDA_GENCODE  := $(foreach a,$(CUDA_ARCH),-gencode arch=compute_$a,code=sm_$a) \
                 -gencode arch=compute_$(lastword $(CUDA_ARCH)),code=compute_$(lastword $(CUDA_ARCH))
NVCC_FLAGS    := -std=c++17 -O3 --threads 2 $(CUDA_GENCODE) -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra,-Wno-unused-parameter \
                 $(if $(WERROR),-Werror all-warnings) $(NVCCFLAGS)

# ---- the plugin ------------------------------------------------------------------------------------------------------

CUDA_OBJ := $(CUDA_C:%.c=$(OBJ)/%.o) $(CUDA_CU:src/cuda/%.cu=$(OBJ)/cuda-$(subst $(space),-,$(CUDA_ARCH))/%.o)

$(OBJ)/src/cuda/%.o: src/cuda/%.c | $(STAMP)
	$(call compile,$<,$(EXACT) $(CUDA_INCLUDES))
$(OBJ)/cuda-$(subst $(space),-,$(CUDA_ARCH))/%.o: src/cuda/%.cu | $(STAMP)
	$(call say,NVCC,$<)mkdir -p $(@D) && $(NVCC) $(NVCC_FLAGS) $(CUDA_INCLUDES) -MMD -MF $(@:.o=.d) -c -o $@ $<

# cudart is inside; cuDNN and cuBLASLt are found when the plugin is opened.
$(LIB)/libfovea-cuda.so: $(CUDA_OBJ) $(CUDA_PURE) $(STAMP)
	$(call say,LINK,$@)mkdir -p $(@D) && $(CXX) -shared -o $@ $(MODE_LINK) $(LDFLAGS) $(CUDA_OBJ) $(CUDA_PURE) $(NO_UNDEFINED) \
	    -L$(CUDA_LIB) -Wl,-rpath,'$$ORIGIN:$(CUDA_LIB)' -lcudnn -lcublasLt -lcudart_static -lpthread -lrt -ldl -lm

# ---- the emulated plugin: kernels compiled for the CPU, a fake runtime below the host code -----------------------------

EMULATED     := $(LIB)/emulated/libfovea-cuda.so
EMULATED_OBJ := $(CUDA_C:%.c=$(OBJ)/emulated/%.o) $(CUDA_CU:%.cu=$(OBJ)/emulated/%.cu.o) \
                $(patsubst %.c,$(OBJ)/emulated/%.o,$(wildcard tests/cuda/*.c))
EMULATED_INCLUDES := $(CUDA_INCLUDES) -Itests/cuda
CXX_FLAGS    := -std=c++17 -fPIC -fvisibility=hidden -ffp-contract=off $(MODE_FLAGS) $(CPPFLAGS) $(CFLAGS) -MMD -MP -Wall -Wextra \
                -Wno-unused-parameter -Wno-missing-field-initializers $(if $(WERROR),-Werror)

$(OBJ)/emulated/%.o: %.c | $(STAMP)
	$(call compile,'$< (emulated)',$(EXACT) $(EMULATED_INCLUDES))
$(OBJ)/emulated/%.cu.o: %.cu | $(STAMP)
	$(call say,CXX,'$< (emulated)')mkdir -p $(@D) && $(CXX) $(CXX_FLAGS) $(EMULATED_INCLUDES) -x c++ -c -o $@ $<

emulated: $(EMULATED)
$(EMULATED): $(EMULATED_OBJ) $(CUDA_PURE) $(STAMP)
	$(call say,LINK,$@)mkdir -p $(@D) && $(CXX) -shared -o $@ $(MODE_LINK) $(LDFLAGS) $(EMULATED_OBJ) $(CUDA_PURE) -Wl,-Bsymbolic \
	    $(NO_UNDEFINED) -L$(CUDA_LIB) -Wl,-rpath,$(CUDA_LIB) -lcudnn -lcublasLt -lpthread -ldl -lm

-include $(EMULATED_OBJ:.o=.d) $(CUDA_OBJ:.o=.d)
