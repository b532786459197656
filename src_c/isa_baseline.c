/* What every CPU of the platform has: SSE2 (16 registers) or NEON (32), 16 bytes each. */
#define FC_ISA baseline
#define FC_VEC_BYTES 16
#define FC_ROWS 4
#define FC_COLS 3
#define FC_COLS_4 3
#define FC_COLS_2 6
#include "isa.inc"
