/* emulated.h - the GPU that is not there (tests/cuda), for tests that run on it where it was built. */
#ifndef FV_TEST_EMULATED_H
#define FV_TEST_EMULATED_H
#include "cuda/fake_control.h"

/* From now on "cuda" is the emulated plugin of the same build as this program. Its controls; NULL: it was not built, or does not open. */
fake_control *find_emulated(void);

#endif
