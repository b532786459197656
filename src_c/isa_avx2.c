/* AVX2 and FMA: 16 registers of 32 bytes. 4 x 3 accumulators + 3 lanes of B: the FMA peak on
 * Zen 4, as do 6 x 2. */
#ifdef __x86_64__
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define FC_ISA avx2
#define FC_VEC_BYTES 32
#define FC_ROWS 4
#define FC_COLS 3
#define FC_COLS_4 3
#define FC_COLS_2 6
#include "isa.inc"

#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
