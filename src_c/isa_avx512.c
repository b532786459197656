/* AVX-512: 32 registers of 64 bytes. 8 x 3 accumulators + 3 lanes of B: 98-100 % of the FMA
 * peak on Zen 4, and so do 6 x 4; 8 x 2 and 4 x 4 stop at 80-90 %. */
#ifdef __x86_64__
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,prefer-vector-width=512")
#endif

#define FC_ISA avx512
#define FC_VEC_BYTES 64
#define FC_HALF avx2   /* Zen 4 starts one 64-byte or two 32-byte FMAs a cycle */
#define FC_ROWS 8
#define FC_COLS 3
#define FC_COLS_4 6
#define FC_COLS_2 8
#include "isa.inc"

#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
