/* What each operation costs that conv_count_*.c count, in the order in which they count them:
 * nanoseconds with vectors of 16, 32 and 64 bytes. `bench/fit_prices.py` writes the numbers,
 * between the braces of each line; what an operation is, the function of its way says. */
#ifndef FC_CONV_PRICES_H
#define FC_CONV_PRICES_H

#include "conv_count_parts.h"

static const double prices[FC_WAYS][FC_TERMS][3] = {
    [FC_PANELS] = {
        {0.253, 0.32, 0.292},      /* cycles of products */
        {0, 0.0453, 0.206},        /* of these with few rows */
        {1.68, 0.141, 0.658},      /* tiles begun */
        {0.394, 0.644, 1.74},      /* vectors of outputs */
        {1.11, 0.142, 0.203},      /* outputs at the edge of a tile */
        {59, 73.6, 71.9},          /* products */
        {0.906, 0.864, 1.18},      /* vectors gathered */
        {1.71, 1.16, 0.983},       /* cells gathered one by one */
        {0, 0.143, 0.292},         /* runs of cells gathered */
        {5.09, 5.5, 6.87},         /* runs of cells planned */
        {0, 13.7, 7.94},           /* entries planned */
        {2.43, 2.58, 1.66},        /* runs of outputs */
        {0.124, 0.156, 0.201},     /* outputs copied one by one */
        {0, 0, 0.00701},           /* weights */
        {0.431, 0.843, 0.22},      /* lines of weights, not from L2 */
        {11.5, 9.9, 9.81},         /* columns of an entry */
        {0.479, 0, 0.0329},        /* lines of weights, not from L1 */
        {2, 4, 8},                 /* rows of outputs in pages of their own (not fitted) */
        {0.284, 0.788, 1.75},      /* vectors gathered of cells apart, and how far */
        {11.4, 6.1, 3.01},         /* lines of weights, out of order, from memory */
        [EVERY_OTHER] = {0.76, 0.435, 1.29},     /* vectors of outputs, to every other place */
        [MEMORY] = {1.16, 0.806, 0.604},         /* lines of operands, from memory */
        [FAR] = {0.17, 0.348, 0.0331},           /* lines of operands, from L3 */
        [ASKED] = {0.532, 0.665, 0.7},           /* of either of a kernel of 1, asked for ahead */
        [CROWDED] = {0.959, 1.06, 0.343},        /* lines of weights that crowd a set of L1 */
        [CROWDED_L2] = {0, 0.314, 0.535},        /* and of L2 */
        [IDLE] = {2.53, 0.841, 2.48},            /* lines of outputs that meet nothing */
        [FILLED] = {0.891, 1.23, 2},             /* vectors of outputs filled beforehand */
        [LAST] = {1.04e+03, 880, 1.04e+03},      /* a sum */
    },
    [FC_PLANES] = {
        {0.262, 0.272, 0.25},      /* cycles of products */
        {0, 0.0479, 0},            /* of these with few rows */
        {0, 0.0319, 0.206},        /* vectors that may lie across two lines */
        {0.499, 0.294, 0.348},     /* tiles begun */
        {0.228, 0.303, 0.851},     /* vectors of outputs */
        {0.335, 0.148, 5.6e-12},   /* outputs at the edge of a tile */
        {0.0503, 0.152, 0.16},     /* vectors of cells, not from L1 */
        {0.0216, 0.0714, 0.074},   /* weights, not from L1 */
        {0.532, 0.686, 1.4},       /* vectors copied */
        {0.275, 0.179, 0.225},     /* cells copied one by one */
        {1.99, 1.26, 0},           /* lines copied */
        {4.61, 4.02, 3.17},        /* columns of the copy that hold zeros */
        {2.43, 1.77, 1.86},        /* lines of outputs copied */
        {0.601, 0.465, 0.309},     /* outputs copied one by one */
        {0.116, 0.0504, 0.0694},   /* weights */
        {58.2, 56.3, 68.2},        /* products */
        {2.07, 2.28, 3.37},        /* rows of products */
        {0.0983, 0.264, 0.517},    /* vectors of zeros */
        {1.74, 0.686, 0},          /* lines of weights, not from L2 */
        {0.275, 0.473, 0.828},     /* vectors copied of cells apart, and how far */
        {16.1, 17.7, 7.62},        /* lines of weights, out of order, from memory */
        [EVERY_OTHER] = {1.12, 1.26, 2.12},      /* vectors of outputs, to every other place */
        [MEMORY] = {0.937, 0.851, 1.39},         /* lines of operands, from memory */
        [FAR] = {0, 0.222, 0.123},               /* lines of operands, from L3 */
        [CROWDED] = {0.521, 0.686, 0.157},       /* lines of weights that crowd a set of L1 */
        [IDLE] = {1.21, 0.651, 2.29},            /* lines of outputs that meet nothing */
        [FILLED] = {0.851, 1.41, 2.29},          /* vectors of outputs filled beforehand */
        [LAST] = {1.5e+03, 1.94e+03, 1.54e+03},  /* a sum */
    },
    [FC_APART] = {
        {0.274, 0.286, 0.255},     /* cycles of products */
        {0, 0.0442, 0.0266},       /* of these with few rows */
        {0.0258, 0.0669, 0.25},    /* vectors that may lie across two lines */
        {0.242, 0, 0.247},         /* tiles begun */
        {0.225, 0.37, 0.97},       /* vectors of outputs */
        {0.339, 0.187, 0.0367},    /* outputs at the edge of a tile */
        {0, 0.0965, 0.139},        /* vectors of cells, not from L1 */
        {0.00633, 0.0377, 0.0049}, /* weights, not from L1 */
        {0.504, 0.735, 1.48},      /* vectors copied */
        {0.261, 0.175, 0.211},     /* cells copied one by one */
        {1.22, 0.537, 0},          /* lines copied */
        {6.08, 5.32, 4.37},        /* columns of the copy that hold zeros */
        {2.16, 1.77, 1.5},         /* lines of outputs copied */
        {0.373, 0.323, 0.257},     /* outputs copied one by one */
        {0.0439, 0.011, 0.021},    /* weights */
        {81.3, 76.1, 80.6},        /* products */
        {1.51, 2.2, 3.08},         /* rows of products */
        {0.254, 0.385, 0.64},      /* vectors of zeros */
        {0.611, 0.611, 0.306},     /* lines of weights, not from L2 */
        {0.281, 0.491, 0.708},     /* vectors copied of cells apart, and how far */
        {8.61, 1.54, 3.25},        /* lines of weights, out of order, from memory */
        [EVERY_OTHER] = {1.1, 1.21, 2.1},        /* vectors of outputs, to every other place */
        [MEMORY] = {0.66, 0.612, 0.874},         /* lines of operands, from memory */
        [FAR] = {0, 0.077, 0.0458},              /* lines of operands, from L3 */
        [CROWDED] = {0.519, 0.87, 0.215},        /* lines of weights that crowd a set of L1 */
        [IDLE] = {1.32, 0.76, 2.47},             /* lines of outputs that meet nothing */
        [FILLED] = {0.561, 1.08, 1.43},          /* vectors of outputs filled beforehand */
        [LAST] = {1.19e+03, 1.35e+03, 1.12e+03}, /* a sum */
    },
    [FC_DEPTHWISE] = {
        {0.276, 0.121, 0.328},     /* multiply-adds */
        {0, 0.24, 0},              /* loads */
        {8.19, 6.76, 16},          /* tiles */
        {0.0102, 0, 0},            /* vectors of outputs */
        {0.448, 1.02, 1.27},       /* vectors copied */
        {2.44, 1.14, 1.84},        /* lines copied */
        {6.95, 5.77, 0},           /* columns of the copy that hold zeros */
        {0.1, 0, 0.0804},          /* multiply-adds in one line */
        {2.7, 16.3, 15.6},         /* channels' boxes and rows */
        {17.2, 11.7, 31.3},        /* channels' boxes */
        {0.785, 0, 0},             /* vectors of zeros */
        [MEMORY] = {1.68, 0.281, 1.83},          /* lines of operands, from memory */
        [FAR] = {0, 0, 0.102},                   /* lines of operands, from L3 */
        [FILLED] = {0, 0, 1.31},                 /* vectors of outputs filled beforehand */
        [LAST] = {2.08e+03, 1.79e+03, 1.77e+03}, /* a sum */
    },
    [FC_TOEPLITZ] = {
        {0.263, 0.162, 0.304},     /* multiply-adds */
        {0, 0, 0.0617},            /* in rows that a tile lacks */
        {0, 0.367, 0.524},         /* in the last row */
        {2.67, 1.29, 0.503},       /* weights laid out */
        {0.22, 0.45, 1.02},        /* vectors copied */
        [MEMORY] = {6.16, 0, 2.19},              /* lines of operands, from memory */
        [FAR] = {0.804, 0.191, 0},               /* lines of operands, from L3 */
        [FILLED] = {0, 0, 0},                    /* vectors of outputs filled beforehand */
        [LAST] = {625, 1.34e+03, 1.59e+03},      /* a sum */
    },
    [FC_CHANNELWISE] = {
        {0.187, 0.12, 0.205},      /* multiply-adds */
        {0.000817, 0.0223, 0.0595}, /* loads */
        {0.762, 0.809, 1.26},      /* runs of taps begun */
        {0, 1.68, 0},              /* stretches of outputs */
        {0.751, 1.04, 1.52},       /* cells turned */
        {0.9, 0.532, 1.58},        /* outputs turned back */
        {0, 0, 1.42},              /* cells and outputs, in sets that meet */
        {6.35, 3.24, 5.25},        /* lines of cells */
        {28.2, 35.2, 40.9},        /* calls */
        {1.13, 1.04, 1.81},        /* weights */
        {0.0899, 0.316, 0.576},    /* zeros */
        {0, 0.118, 0.15},          /* cells looked at, not from L1 */
        [MEMORY] = {0.275, 0.267, 0.72},         /* lines of operands, from memory */
        [FAR] = {0.195, 0.149, 0.164},           /* lines of operands, from L3 */
        [IDLE] = {1.14, 0.662, 2.25},            /* lines of outputs that meet nothing */
        [FILLED] = {0, 0.108, 0.375},            /* vectors of outputs filled beforehand */
        [LAST] = {1.64e+03, 1.76e+03, 1.81e+03}, /* a sum */
    },
    [FC_PATCHES] = {
        {1.06, 1.02, 0.998},       /* nanoseconds of the kernel of 1 */
        {0.0606, 0.0111, 0.139},   /* cells turned by fours */
        {0.314, 0.679, 0.583},     /* one by one */
        {20.5, 22.2, 16},          /* their lines */
        {0.288, 0.165, 0.142},     /* cells turned back by fours */
        {0.281, 0.612, 0.462},     /* one by one */
        {21.5, 15.6, 16.9},        /* their lines */
        [MEMORY] = {2.89, 1.7, 4.65},            /* lines of operands, from memory */
        [FAR] = {0.509, 0.56, 0.00628},          /* lines of operands, from L3 */
        [FILLED] = {0, 0, 0},                    /* vectors of outputs filled beforehand */
        [LAST] = {558, 3.27e-08, 732},           /* a sum */
    },
    /* Not fitted yet: set by hand, to the input gradients of 45 layers of few channels, on which
     * what is chosen takes 1.2 % longer than the fastest way. */
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
        {0.227, 0.294, 0.296},     /* cycles of products */
        {1.38, 1.58, 3.05},        /* tiles' terms begun */
        {1.07, 1.47, 0},           /* vectors of M */
        {53.7, 41.9, 47.5},        /* products */
        {1.29, 1.19, 1.99},        /* points of cells transformed */
        {0.166, 0, 2.3},           /* points of outputs */
        {0.705, 1.23, 2.83},       /* vectors of cells turned to lanes */
        {0.854, 0.957, 1.06},      /* of outputs turned back */
        {69.9, 84.1, 95.8},        /* rows of tiles of cells */
        {24.9, 13.9, 47.1},        /* of outputs */
        {0.805, 0.907, 1.18},      /* points of weights transformed */
        {0.712, 0.365, 0.836},     /* weights */
        {30.5, 28.9, 45.4},        /* transforms of weights called for */
        {1.24, 1.73, 0.998},       /* lines of weights, not from L2 */
        {3.49, 3.78, 4.14},        /* lines of outputs that lie apart */
        {0.291, 0.258, 0.422},     /* outputs in these lines */
        {0.284, 0.275, 0.691},     /* points of cells, not in L2 */
        {0.00521, 5.74, 3.56},     /* lines of weights, out of order, from memory */
        {4, 9.18, 15.8},           /* points of cells, not from L3 */
        {1.11, 2, 2.1},            /* points of U, not from L3 */
        {0.663, 3.68, 16.9},       /* pieces of weights turned to lanes */
        [MEMORY] = {4.63, 0.856, 1.14},          /* lines of operands, from memory */
        [FAR] = {0.403, 0.201, 0},               /* lines of operands, from L3 */
        [KEPT] = {0.385, 0, 0.23},               /* cells that are met, copied */
        [KEPT_LINES] = {1.8, 11.1, 5.16},        /* their lines */
        [FILLED] = {0.236, 0.461, 0.407},        /* vectors of outputs filled beforehand */
        [LAST] = {455, 975, 401},                /* a sum */
    },
    [FC_CHANNELS] = {
        {0.234, 0.282, 0.283},     /* cycles of products */
        {0, 0.0157, 0.083},        /* of these with few rows */
        {0, 0, 0.029},             /* vectors that may lie across two lines */
        {1.76, 0.899, 2.3},        /* tiles begun */
        {0.221, 1.69, 1.56},       /* vectors of dw */
        {0.37, 0.249, 0.182},      /* weights at the edge of a tile */
        {10.2, 3.49, 1.97},        /* tiles */
        {0.168, 0.119, 0.136},     /* cells turned by fours */
        {0.456, 0.489, 0.441},     /* one by one */
        {21.8, 19.4, 14.4},        /* lines turned */
        {0, 0.0385, 0.0784},       /* weights turned by fours */
        {0.349, 0.579, 0.413},     /* one by one */
        {0.525, 0.607, 2.91},      /* vectors of dy looked at */
        {17.8, 1.7, 7.23},         /* filters */
        {4.2, 77.6, 101},          /* strips */
        {30.8, 40.4, 38.4},        /* products */
        {0, 0, 0},                 /* weights */
        {0.00354, 0.142, 0.215},   /* weights turned apart */
        {0.00632, 0.064, 0.0328},  /* vectors of x, not from L1 */
        [MEMORY] = {1.39, 0.747, 0.718},         /* lines of operands, from memory */
        [FAR] = {0.426, 0.215, 0.2},             /* lines of operands, from L3 */
        [LAST] = {1.4e+03, 1.94e+03, 2.07e+03},  /* a sum */
    },
    [FC_DOTS] = {
        {0.893, 0.286, 0.286},     /* tiles, in multiply-adds */
        {0.0461, 0.213, 0.0887},   /* rows across two lines */
        {1.66, 0.953, 0.643},      /* lines of outputs */
        {31.8, 30.7, 22.6},        /* products */
        {2.55, 1.98, 2.57},        /* sums across lanes */
        {0.293, 0.611, 1.12},      /* vectors copied */
        {6.43, 6.51, 5.62},        /* columns at edges of planes */
        {1.06, 0.944, 0.275},      /* cells copied one by one */
        {0.783, 0.879, 0.676},     /* vectors cleared */
        {22.2, 22.3, 45},          /* strips */
        {0.588, 17.2, 13.5},       /* columns and rows planned */
        {0.134, 0.121, 0.0072},    /* vectors of tiles, not from L1 */
        {0.577, 0.626, 0.555},     /* vectors copied of cells apart, and how far */
        [MEMORY] = {0.893, 0.384, 1.06},         /* lines of operands, from memory */
        [FAR] = {0, 0.405, 0.468},               /* lines of operands, from L3 */
        [LAST] = {2.55e+03, 2.98e+03, 2.71e+03}, /* a sum */
    },
    [FC_CHANNELWISE_GRAD_WEIGHT] = {
        {0.18, 0.124, 0.245},      /* multiply-adds */
        {0, 0, 0},                 /* loads */
        {0.227, 0.334, 0.573},     /* runs of taps begun */
        {0, 0.511, 0},             /* stretches of outputs */
        {0.888, 1.08, 1.36},       /* cells turned */
        {0.694, 0.592, 1.21},      /* outputs turned back */
        {0, 0, 0.767},             /* cells and outputs, in sets that meet */
        {4.21, 5.36e-11, 4.48},    /* lines of cells */
        {38.1, 48, 63.9},          /* calls */
        {7.9, 5.76, 8.26},         /* weights */
        {0.184, 0.549, 0.763},     /* zeros */
        {0, 0, 0.00119},           /* cells looked at, not from L1 */
        [MEMORY] = {0.885, 0.653, 0.658},        /* lines of operands, from memory */
        [FAR] = {0.539, 0.174, 0.302},           /* lines of operands, from L3 */
        [LAST] = {2.06e+03, 1.65e+03, 2.01e+03}, /* a sum */
    },
    [FC_PATCHES_GRAD_WEIGHT] = {
        {0.952, 0.894, 0.921},     /* nanoseconds of the kernel of 1 */
        {0.166, 0.109, 0.251},     /* cells turned by fours */
        {0.557, 0.895, 0.67},      /* one by one */
        {24.6, 19.5, 17.4},        /* their lines */
        [MEMORY] = {2.13, 4.71, 1.71},           /* lines of operands, from memory */
        [FAR] = {0.872, 0.548, 0.385},           /* lines of operands, from L3 */
        [LAST] = {0, 85.9, 0},                   /* a sum */
    },
    [FC_TRANSFORMS_GRAD_WEIGHT] = {
        {0.3, 0.381, 0.344},       /* cycles of products */
        {2.18, 1.52, 2.87},        /* tiles' terms begun */
        {0, 1.45, 2.19},           /* vectors of M */
        {0, 0.3, 0},               /* not in L2 */
        {1.47, 1.09, 2.23},        /* points of cells transformed */
        {0.962, 0.952, 0.965},     /* points of outputs */
        {1.49, 0.83, 1.79},        /* vectors of cells turned to lanes */
        {0.076, 1.6, 1.61},        /* of outputs */
        {0, 34.7, 2.37},           /* rows of tiles of cells */
        {98.7, 47.1, 82.4},        /* of outputs */
        {1.64, 0, 0},              /* points of weights transformed back */
        {1.47, 2.8, 4.27},         /* their vectors */
        {0.37, 0, 0.196},          /* weights */
        {34.2, 31.6, 27.2},        /* products */
        {0, 261, 502},             /* chunks */
        {0, 0.167, 0.19},          /* vectors of M, not in L3 */
        [MEMORY] = {4.74, 0.539, 0.995},         /* lines of operands, from memory */
        [FAR] = {0.311, 0.621, 0.205},           /* lines of operands, from L3 */
        [KEPT] = {0.0195, 1.71e-10, 1.25},       /* cells that are met, copied */
        [KEPT_LINES] = {1.97, 0.00863, 7.28e-10}, /* their lines */
        [FILLED] = {0, 0, 0},                    /* vectors of outputs filled beforehand */
        [LAST] = {848, 1.68e+03, 2.42e+03},      /* a sum */
    },
};

#endif
