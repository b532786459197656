#include "arena.h"

#include <stdatomic.h>
#include <stdlib.h>
#ifdef _WIN32
#include <malloc.h>
#define aligned_alloc(alignment, bytes) _aligned_malloc(bytes, alignment)
#define aligned_free _aligned_free
#else
#include <pthread.h>
#define aligned_free free
#endif

/* `make sanitize` sees a kept block's every byte as allocated: tell it which ones are lent. */
#ifdef FC_SANITIZE
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(memory, bytes)
#define ASAN_UNPOISON_MEMORY_REGION(memory, bytes)
#endif

/* A block is preceded by one page that holds its size: it keeps the block page-aligned. */
enum { PAGE = 4096, SLOTS = 16 };
typedef struct { size_t bytes; } header;

/* Kept blocks. Sixteen concurrent callers are served without the system allocator; what does
 * not fit a slot, or would keep more than KEEP bytes in all, is freed at once. */
static const size_t KEEP = (size_t)256 << 20;
static header *slots[SLOTS];
static size_t kept;
static atomic_flag lock = ATOMIC_FLAG_INIT;

static void acquire(void) { while (atomic_flag_test_and_set_explicit(&lock, memory_order_acquire)) {} }
static void release(void) { atomic_flag_clear_explicit(&lock, memory_order_release); }

#ifndef _WIN32
/* A fork happens under the lock: a child whose parent's other thread held it would wait for ever. */
__attribute__((constructor)) static void guard_forks(void)
{
    pthread_atfork(acquire, release, release);
}
#endif

/* Slot of the smallest kept block that is large enough, or -1. */
static int best_slot(size_t bytes)
{
    int best = -1;
    for (int i = 0; i < SLOTS; i++)
        if (slots[i] && slots[i]->bytes >= bytes && (best < 0 || slots[i]->bytes < slots[best]->bytes))
            best = i;
    return best;
}

void *fc_arena_take(size_t bytes)
{
    header *block = NULL;
    if (bytes > (size_t)-1 - 2 * PAGE)
        return NULL;
    acquire();
    int slot = best_slot(bytes);
    if (slot >= 0) {
        block = slots[slot];
        slots[slot] = NULL;
        kept -= block->bytes;
    }
    release();
    if (!block) {
        const size_t pages = (bytes + PAGE - 1) / PAGE * PAGE;
        block = aligned_alloc(PAGE, pages + PAGE);
        if (!block)
            return NULL;
        block->bytes = pages;
    }
    ASAN_POISON_MEMORY_REGION((char *)block + PAGE, block->bytes);
    ASAN_UNPOISON_MEMORY_REGION((char *)block + PAGE, bytes);
    return (char *)block + PAGE;
}

void fc_arena_give(void *memory)
{
    if (!memory)
        return;
    header *block = (header *)((char *)memory - PAGE);
    ASAN_POISON_MEMORY_REGION(memory, block->bytes);
    acquire();
    for (int i = 0; block && i < SLOTS; i++)
        if (!slots[i] && kept + block->bytes <= KEEP) {
            slots[i] = block;
            kept += block->bytes;
            block = NULL;
        }
    release();
    aligned_free(block);
}

size_t fc_arena_clear(void)
{
    header *freed[SLOTS];
    acquire();
    size_t bytes = kept;
    for (int i = 0; i < SLOTS; i++) {
        freed[i] = slots[i];
        slots[i] = NULL;
    }
    kept = 0;
    release();
    for (int i = 0; i < SLOTS; i++)
        aligned_free(freed[i]);
    return bytes;
}
