/* What each operation costs that conv_count_*.c count, in the order in which they count them:
 * nanoseconds with vectors of 16, 32 and 64 bytes. `bench/sweep.py fit` writes the numbers, between
 * the braces of each line; what an operation is, the function of its way says. */
#ifndef FC_CONV_PRICES_H
#define FC_CONV_PRICES_H

#include "conv_count_parts.h"

static const double prices[FC_WAYS][FC_TERMS][3] = {
    [FC_PANELS] = {
        {0.243, 0.312, 0.279},     /* cycles of products */
        {0.01, 0.0258, 0.18},      /* of these with few rows */
        {2.56, 0, 1.57},           /* tiles begun */
        {0.318, 0.67, 1.82},       /* vectors of outputs */
        {1.09, 0.233, 0.279},      /* outputs at the edge of a tile */
        {57.6, 82.4, 62.6},        /* products */
        {0.895, 0.894, 1.26},      /* vectors gathered */
        {1.64, 0.924, 0.99},       /* cells gathered one by one */
        {0.0268, 0.149, 0.221},    /* runs of cells gathered */
        {6.12, 4.61, 6.95},        /* runs of cells planned */
        {0, 15.2, 10.3},           /* entries planned */
        {2.84, 3.06, 1.83},        /* runs of outputs */
        {0.0376, 0.147, 0.147},    /* outputs copied one by one */
        {0, 0, 0},                 /* weights */
        {1.09, 0.788, 0.302},      /* lines of weights, not from L2 */
        {0, 0, 0},                 /* panels */
        {11.4, 9.96, 9.45},        /* columns of an entry */
        {0.719, 0.107, 0.162},     /* lines of weights, not from L1 */
        {2, 4, 8},                 /* rows of outputs in pages of their own (not fitted) */
        {0.403, 0.914, 2.3},       /* vectors gathered of cells apart, and how far */
        [EVERY_OTHER] = {0.504, 0, 0.834},       /* vectors of outputs, to every other place */
        [MEMORY] = {1.24, 3.33, 0.77},           /* lines of operands, from memory */
        [FAR] = {0.0502, 0.43, 0.133},           /* lines of operands, from L3 */
        [ASKED] = {0.854, 0.682, 0.547},         /* of either of a kernel of 1, asked for ahead */
        [CROWDED] = {0.868, 0.977, 0.331},       /* lines of weights that crowd a set of L1 */
        [CROWDED_L2] = {0, 1.29, 1.17},          /* and of L2 */
        [IDLE] = {11.8, 1.04, 2.49},             /* lines of outputs that meet nothing */
        [FILLED] = {0.926, 1.43, 2.35},          /* vectors of outputs filled beforehand */
        [LAST] = {728, 899, 1.16e+03},           /* a sum */
    },
    [FC_PLANES] = {
        {0.261, 0.269, 0.254},     /* cycles of products */
        {0, 0.0457, 0},            /* of these with few rows */
        {0, 0.0342, 0.214},        /* vectors that may lie across two lines */
        {0.6, 0.515, 0.427},       /* tiles begun */
        {0.228, 0.328, 0.894},     /* vectors of outputs */
        {0.671, 0.0408, 0.0231},   /* outputs at the edge of a tile */
        {0.0488, 0.132, 0.0265},   /* vectors of cells, not from L1 */
        {0.0102, 0.0731, 0.0913},  /* weights, not from L1 */
        {0.547, 0.739, 1.5},       /* vectors copied */
        {0.329, 0.157, 0.177},     /* cells copied one by one */
        {1.48, 0.739, 0},          /* lines copied */
        {4.9, 4.19, 2.88},         /* columns of the copy that hold zeros */
        {1.6, 1.1, 1.04},          /* lines of outputs copied */
        {0.579, 0.322, 0.333},     /* outputs copied one by one */
        {0.116, 0.0162, 0.049},    /* weights */
        {59.9, 56.6, 65.9},        /* products */
        {0.773, 4.6, 3.6},         /* rows of products */
        {0.207, 0.334, 0.525},     /* vectors of zeros */
        {1.89, 0.997, 0},          /* lines of weights, not from L2 */
        {0.358, 0.432, 0.914},     /* vectors copied of cells apart, and how far */
        [EVERY_OTHER] = {0.876, 0.59, 1.8},      /* vectors of outputs, to every other place */
        [MEMORY] = {0.849, 1.15, 1.34},          /* lines of operands, from memory */
        [FAR] = {0, 0.24, 0.206},                /* lines of operands, from L3 */
        [CROWDED] = {0.914, 0.964, 0.239},       /* lines of weights that crowd a set of L1 */
        [IDLE] = {1.14, 0.904, 2.51},            /* lines of outputs that meet nothing */
        [FILLED] = {0.97, 1.65, 2.67},           /* vectors of outputs filled beforehand */
        [LAST] = {995, 1.69e+03, 1.18e+03},      /* a sum */
    },
    [FC_APART] = {
        {0.277, 0.279, 0.252},     /* cycles of products */
        {0, 0.0353, 0.0459},       /* of these with few rows */
        {0, 0.079, 0.249},         /* vectors that may lie across two lines */
        {0.576, 0, 0.462},         /* tiles begun */
        {0.184, 0.402, 0.978},     /* vectors of outputs */
        {0.57, 0.012, 0.0623},     /* outputs at the edge of a tile */
        {0, 0.0999, 0.103},        /* vectors of cells, not from L1 */
        {0.00917, 0.0666, 0.0185}, /* weights, not from L1 */
        {0.518, 0.761, 1.48},      /* vectors copied */
        {0.318, 0.135, 0.154},     /* cells copied one by one */
        {0.961, 0.197, 0},         /* lines copied */
        {5.88, 5.53, 4.37},        /* columns of the copy that hold zeros */
        {2.89, 1.85, 1.79},        /* lines of outputs copied */
        {0.405, 0.265, 0.22},      /* outputs copied one by one */
        {0.00406, 0, 0.00943},     /* weights */
        {77.7, 79.6, 71.2},        /* products */
        {1.33, 3.6, 3.08},         /* rows of products */
        {0.371, 0.384, 0.463},     /* vectors of zeros */
        {0.985, 0.506, 0.389},     /* lines of weights, not from L2 */
        {0.372, 0.448, 0.809},     /* vectors copied of cells apart, and how far */
        [EVERY_OTHER] = {0.909, 0.824, 1.84},    /* vectors of outputs, to every other place */
        [MEMORY] = {0.578, 0.792, 0.933},        /* lines of operands, from memory */
        [FAR] = {0, 0.0861, 0.131},              /* lines of operands, from L3 */
        [CROWDED] = {0.497, 0.731, 0.296},       /* lines of weights that crowd a set of L1 */
        [IDLE] = {1.14, 0.926, 2.5},             /* lines of outputs that meet nothing */
        [FILLED] = {0.666, 1.28, 1.37},          /* vectors of outputs filled beforehand */
        [LAST] = {1.01e+03, 1.5e+03, 1.16e+03},  /* a sum */
    },
    [FC_DEPTHWISE] = {
        {0.254, 0.143, 0.353},     /* multiply-adds */
        {0, 0.154, 0},             /* loads */
        {4.38, 6.35, 8.03},        /* tiles */
        {0.978, 0.231, 0.113},     /* vectors of outputs */
        {0.0749, 1.12, 1.71},      /* vectors copied */
        {0, 0, 0},                 /* cells copied one by one */
        {2.29, 0.619, 0},          /* lines copied */
        {0.486, 1.03, 0},          /* columns of the copy that hold zeros */
        {0.156, 0, 0.0546},        /* multiply-adds in one line */
        {1.26, 17.2, 43.8},        /* channels' boxes and rows */
        {45.1, 25.3, 19.4},        /* channels' boxes */
        {0.51, 0, 0},              /* vectors of zeros */
        [MEMORY] = {0.996, 0.516, 2.05},         /* lines of operands, from memory */
        [FAR] = {0.151, 0, 0.356},               /* lines of operands, from L3 */
        [FILLED] = {0, 0, 0},                    /* vectors of outputs filled beforehand */
        [LAST] = {2.17e+03, 2.2e+03, 2.06e+03},  /* a sum */
    },
    [FC_TOEPLITZ] = {
        {0.263, 0.166, 0.309},     /* multiply-adds */
        {0, 0.0333, 0.0571},       /* in rows that a tile lacks */
        {0, 0.358, 0.407},         /* in the last row */
        {2.82, 0.727, 0.755},      /* weights laid out */
        {0.197, 0.542, 1.01},      /* vectors copied */
        {0, 0, 0},                 /* strips and rows */
        {0, 0, 0},                 /* strips */
        [MEMORY] = {2.95, 0, 0},                 /* lines of operands, from memory */
        [FAR] = {0.783, 0, 0.15},                /* lines of operands, from L3 */
        [FILLED] = {0, 0, 0},                    /* vectors of outputs filled beforehand */
        [LAST] = {418, 969, 1.23e+03},           /* a sum */
    },
    [FC_CHANNELWISE] = {
        {0.182, 0.107, 0.204},     /* multiply-adds */
        {0, 0.105, 0.0721},        /* loads */
        {0.825, 0.327, 1.35},      /* runs of taps begun */
        {0, 0, 0.131},             /* stretches of outputs */
        {0.833, 0.949, 1.43},      /* cells turned */
        {0.838, 0.85, 1.33},       /* outputs turned back */
        {0, 0, 0},                 /* cells turned, in sets that meet */
        {0, 0, 0},                 /* outputs, in sets that meet */
        {7.97, 4.2, 3.64},         /* lines of cells */
        {28.9, 37.8, 41.9},        /* calls */
        {1.72, 0.815, 0.976},      /* weights */
        {0.0148, 0.317, 0.539},    /* zeros */
        {0, 0.219, 0.152},         /* cells looked at, not from L1 */
        [MEMORY] = {0, 1.12, 1.52},              /* lines of operands, from memory */
        [FAR] = {0.393, 0.0841, 0.334},          /* lines of operands, from L3 */
        [IDLE] = {1.08, 0.947, 2.39},            /* lines of outputs that meet nothing */
        [FILLED] = {0, 0, 0.111},                /* vectors of outputs filled beforehand */
        [LAST] = {1.42e+03, 1.83e+03, 2.21e+03}, /* a sum */
    },
    [FC_PATCHES] = {
        {1.14, 1.11, 1.02},        /* nanoseconds of the kernel of 1 */
        {0.128, 0, 0.236},         /* cells turned by fours */
        {0.457, 0.676, 0.662},     /* one by one */
        {15.5, 17.8, 9.19},        /* their lines */
        {0.384, 0.00906, 0.11},    /* cells turned back by fours */
        {0.341, 0.83, 0.565},      /* one by one */
        {18.3, 12.6, 11.3},        /* their lines */
        [MEMORY] = {1.73, 1.84, 5.04},           /* lines of operands, from memory */
        [FAR] = {0.466, 0.569, 0.375},           /* lines of operands, from L3 */
        [FILLED] = {0, 0, 0},                    /* vectors of outputs filled beforehand */
        [LAST] = {861, 0, 1.07e+03},             /* a sum */
    },
    [FC_COLUMNS] = {
        {1, 1, 1},                 /* nanoseconds of the kernel of 1 (not fitted) */
        {0.5, 0.5, 0.7},           /* vectors added */
        {1, 1, 1},                 /* lines added */
        {6, 6, 6},                 /* calls */
        {20, 20, 20},              /* lines of a phase put together */
        {0.5, 0.5, 0.7},           /* vectors of these */
        [MEMORY] = {0.6, 1, 1},                  /* lines of operands, from memory */
        [FAR] = {0.1, 0.2, 0.2},                 /* lines of operands, from L3 */
        [LAST] = {1000, 1000, 1000},             /* a sum */
    },
    [FC_TRANSFORMS] = {
        {0.227, 0.293, 0.297},     /* cycles of products */
        {1.36, 1.6, 4.43},         /* tiles' terms begun */
        {1.09, 1.49, 0},           /* vectors of M */
        {66, 38.6, 33.7},          /* products */
        {1.28, 1.31, 2.04},        /* points of cells transformed */
        {0.103, 0, 2.36},          /* points of outputs */
        {0.69, 1.03, 2.84},        /* vectors of cells turned to lanes */
        {0.909, 0.785, 0.665},     /* of outputs turned back */
        {71.6, 77.9, 89.4},        /* rows of tiles of cells */
        {27.5, 26, 62.8},          /* of outputs */
        {0.649, 0.573, 0.668},     /* points of weights transformed */
        {1.15, 1.39, 3.38},        /* weights */
        {0, 0, 0},                 /* points of weights read */
        {1.37, 2.46, 2.63},        /* not from a cache */
        {5.61, 4.27, 3.08},        /* lines of outputs that lie apart */
        {0.127, 0.29, 0.402},      /* outputs in these lines */
        {0.333, 0.404, 0.717},     /* points of cells, not in L2 */
        {0.123, 0.22, 0},          /* points of weights, not in L2 */
        {6.14, 1.41, 18.9},        /* points of cells, not in L3 */
        {0.0672, 0.195, 0.324},    /* points of weights, not in L3 */
        [MEMORY] = {5.33, 3.08, 1.63},           /* lines of operands, from memory */
        [FAR] = {0.0158, 0, 0},                  /* lines of operands, from L3 */
        [KEPT] = {0, 0.224, 0},                  /* cells that are met, copied */
        [KEPT_LINES] = {3.65, 9.38, 4.92},       /* their lines */
        [FILLED] = {0, 1.15, 0.662},             /* vectors of outputs filled beforehand */
        [LAST] = {488, 937, 690},                /* a sum */
    },
    [FC_CHANNELS] = {
        {0.233, 0.276, 0.272},     /* cycles of products */
        {0.00204, 0.0206, 0.0628}, /* of these with few rows */
        {0, 0, 0.0773},            /* vectors that may lie across two lines */
        {1.93, 1.23, 2.89},        /* tiles begun */
        {0.0126, 1.14, 2.99},      /* vectors of dw */
        {0.235, 0.672, 0},         /* weights at the edge of a tile */
        {8.72, 0, 0.302},          /* tiles */
        {0.124, 0.148, 0.133},     /* cells turned by fours */
        {0.401, 0.502, 0.443},     /* one by one */
        {17.8, 13.5, 13.4},        /* lines turned */
        {0, 0, 0.012},             /* weights turned by fours */
        {0.0305, 0.552, 0.202},    /* one by one */
        {1.07, 0.851, 2.08},       /* vectors of dy looked at */
        {24.5, 7.59, 19.5},        /* filters */
        {29.8, 74, 55},            /* strips */
        {29.2, 38.7, 36.9},        /* products */
        {0, 0.0385, 0.0161},       /* weights */
        {0, 0.0711, 0},            /* weights turned apart */
        {0.00523, 0.0778, 0.013},  /* vectors of x, not from L1 */
        [MEMORY] = {1.01, 1.07, 1.39},           /* lines of operands, from memory */
        [FAR] = {0.427, 0.556, 0.445},           /* lines of operands, from L3 */
        [LAST] = {1.5e+03, 2.06e+03, 2.06e+03},  /* a sum */
    },
    [FC_DOTS] = {
        {0.935, 0.297, 0.286},     /* tiles, in multiply-adds */
        {0.0622, 0.212, 0.0851},   /* rows across two lines */
        {2.03, 1.03, 0.68},        /* lines of outputs */
        {26.9, 29, 24},            /* products */
        {2.26, 1.88, 2.5},         /* sums across lanes */
        {0.249, 0.684, 1.31},      /* vectors copied */
        {6.15, 5.58, 5.42},        /* columns at edges of planes */
        {0.89, 0.643, 0.34},       /* cells copied one by one */
        {0.755, 0.773, 0.538},     /* vectors cleared */
        {34.2, 23.3, 38.2},        /* strips */
        {1.41, 17.5, 21.1},        /* columns and rows planned */
        {0.0673, 0.139, 0.0187},   /* vectors of tiles, not from L1 */
        [MEMORY] = {1.33, 1.48, 1.24},           /* lines of operands, from memory */
        [FAR] = {0.325, 0.584, 0.51},            /* lines of operands, from L3 */
        [LAST] = {2.73e+03, 3.22e+03, 2.74e+03}, /* a sum */
    },
    [FC_CHANNELWISE_GRAD_WEIGHT] = {
        {0.173, 0.126, 0.245},     /* multiply-adds */
        {0, 0, 0},                 /* loads */
        {0.236, 0.33, 0.602},      /* runs of taps begun */
        {0, 0, 0},                 /* stretches of outputs */
        {0.996, 1.03, 1.25},       /* cells turned */
        {0.755, 0.83, 1.1},        /* outputs turned back */
        {0, 0, 0},                 /* cells turned, in sets that meet */
        {0, 0, 0},                 /* outputs, in sets that meet */
        {3.67, 0, 3.35},           /* lines of cells */
        {33.5, 57.6, 49.4},        /* calls */
        {10.8, 4.99, 7.78},        /* weights */
        {0.141, 0.481, 0.808},     /* zeros */
        {0.0213, 0, 0},            /* cells looked at, not from L1 */
        [MEMORY] = {1.13, 0.591, 1.14},          /* lines of operands, from memory */
        [FAR] = {0.972, 0.123, 0.454},           /* lines of operands, from L3 */
        [LAST] = {2.16e+03, 1.71e+03, 2.53e+03}, /* a sum */
    },
    [FC_PATCHES_GRAD_WEIGHT] = {
        {1.01, 1.06, 0.94},        /* nanoseconds of the kernel of 1 */
        {0.254, 0, 0.26},          /* cells turned by fours */
        {0.402, 0.712, 0.693},     /* one by one */
        {24.2, 17.9, 12.3},        /* their lines */
        [MEMORY] = {1.93, 2.12, 2.81},           /* lines of operands, from memory */
        [FAR] = {1.16, 1.35, 0.77},              /* lines of operands, from L3 */
        [LAST] = {0, 0, 697},                    /* a sum */
    },
    [FC_TRANSFORMS_GRAD_WEIGHT] = {
        {0.289, 0.317, 0.315},     /* cycles of products */
        {1.97, 2.47, 3.71},        /* tiles' terms begun */
        {1.44, 1.29, 1.99},        /* vectors of M */
        {0.0382, 0, 0},            /* not in L2 */
        {1.23, 1.16, 1.97},        /* points of cells transformed */
        {1.24, 1.48, 1.53},        /* points of outputs */
        {1.33, 1.07, 2.25},        /* vectors of cells turned to lanes */
        {0, 0.133, 1.47},          /* of outputs */
        {30.9, 40.3, 0},           /* rows of tiles of cells */
        {75, 45.3, 72.7},          /* of outputs */
        {0, 0, 0},                 /* points of weights transformed back */
        {1.91, 2.93, 4.09},        /* their vectors */
        {0, 0, 0.0493},            /* weights */
        {28.2, 20.7, 33.7},        /* products */
        {86.2, 0, 136},            /* chunks */
        {0, 0, 0},                 /* groups */
        {0.151, 0.148, 0.284},     /* vectors of M, not in L3 */
        [MEMORY] = {3.75, 2.53, 2.34},           /* lines of operands, from memory */
        [FAR] = {0, 2.16, 0.391},                /* lines of operands, from L3 */
        [KEPT] = {0, 1.06, 0.307},               /* cells that are met, copied */
        [KEPT_LINES] = {0, 0, 8.38},             /* their lines */
        [FILLED] = {0, 0, 0},                    /* vectors of outputs filled beforehand */
        [LAST] = {1.12e+03, 3.06e+03, 1.73e+03}, /* a sum */
    },
};

#endif
