/* Which instruction set is in force. Nothing else in the library looks at the CPU. */
#ifndef FC_DISPATCH_H
#define FC_DISPATCH_H

#include "kernels.h"

/* Best first; ends with a NULL name. Sets that were not compiled in are left out. */
const char *fc_isa_name(int index);

/* Is fc_isa_name(index) usable on this CPU? */
int fc_isa_supported(int index);

/* Put the set of that name in force for every later call, or, for NULL, the best one here.
 * Returns 0, or -1 where the name is unknown or the CPU lacks it (then nothing changes).
 * Not to be called while a kernel runs. */
int fc_isa_select(const char *name);

/* The one in force. */
const char *fc_isa_active(void);

#endif
