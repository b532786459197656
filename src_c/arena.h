/* Scratch memory. A fresh page costs 0.4 to 5 us, so blocks are kept between calls.
 *
 * A driver takes one block at its start, divides it among its threads, and gives it back at
 * its end. Any number of threads may do so at once; each gets a block of its own.
 */
#ifndef FC_ARENA_H
#define FC_ARENA_H

#include <stddef.h>

/* At least `bytes` bytes, aligned to 4096, contents unspecified; NULL if there is no memory. */
void *fc_arena_take(size_t bytes);

/* The same, but never a kept block that is much larger: for what outlives the call. */
void *fc_arena_take_close(size_t bytes);

/* Give back what fc_arena_take or fc_arena_take_close returned (NULL is fine). */
void fc_arena_give(void *block);

/* Free every block that nobody holds; returns how many bytes that were. */
size_t fc_arena_clear(void);

#endif
