"""
Output shapes
=============
"""

import fastconv as fc

fc.conv_output_shape((1, 11, 17), (1, 1, 5, 3), stride=2)
