#pragma once
#include "platform/system.h"
#include "platform/context.h"

/* =============================================================================================
   [SECTION] basics/threads: Threads
   ft__parallel runs body(context, 0..count-1), each index once, in any order. What an index
   computes never depends on which thread runs it or on the number of threads, and no two indices
   add to the same number: so the bits are the same for any number of threads.

   The ticket packs (job << 32 | next index). A thread claims an index with a compare-and-swap,
   which fails if another thread was faster or the job is over. Odd jobs use one slot, even jobs the
   other: so the next job is written while threads may still read the last one, and one store starts
   it. Data that threads write often has its own cache lines, as a line that two threads write moves
   back and forth between processors. A thread without work spins for a short while, as the next
   operator usually follows at once, and then sleeps.
   ============================================================================================= */
typedef void (*ft__body)(void *context, int index);

#ifndef FINETUNE_NO_THREADS
/* Aligned to its size, even if a 32-bit ABI aligns it to 4: else atomics may cross a cache line. */
typedef uint64_t ft__counter __attribute__((aligned(8)));

struct ft__pool {
    pthread_mutex_t mutex;
    pthread_cond_t work, done;
    pthread_t threads[64];
    int thread_count;
    uint64_t wanted;        /* indices of all jobs so far */
    char gap[64];
    struct { ft__body body; void *context; int count; } jobs[2];
    int sleeping;           /* threads that wait for work */
    bool waiting;           /* the caller sleeps until all are finished */
    bool quit;
    char another_gap[64];
    ft__counter ticket;     /* job << 32 | next index */
    char third_gap[64];
    ft__counter finished;   /* indices that were run, of all jobs so far */
};

/* Loads, stores and additions that other threads see in order. */
#define FT__LOAD(x) __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define FT__STORE(x, value) __atomic_store_n(&(x), value, __ATOMIC_SEQ_CST)
#define FT__ADD(x, value) __atomic_add_fetch(&(x), value, __ATOMIC_SEQ_CST)
/* For a job's fields, in any order: a thread that read stale ones cannot claim an index. */
#define FT__LOAD_LOOSE(x) __atomic_load_n(&(x), __ATOMIC_RELAXED)
#define FT__STORE_LOOSE(x, value) __atomic_store_n(&(x), value, __ATOMIC_RELAXED)
#define FT__LOOKS 2000 /* 20 to 50 microseconds */

/* Claims and runs one index; returns false if none is left. */
static bool ft__pool_take(ft__pool *pool)
{
    uint64_t ticket = FT__LOAD(pool->ticket);
    int place = (int)(ticket >> 32 & 1), index = (int)(ticket & 0xffffffffu);
    ft__body body = FT__LOAD_LOOSE(pool->jobs[place].body);
    void *context = FT__LOAD_LOOSE(pool->jobs[place].context);
    if (index >= FT__LOAD_LOOSE(pool->jobs[place].count)) return false;
    if (!__atomic_compare_exchange_n(&pool->ticket, &ticket, ticket + 1, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST)) return true;
    body(context, index);
    FT__ADD(pool->finished, 1);
    if (FT__LOAD(pool->waiting)) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_signal(&pool->done);
        pthread_mutex_unlock(&pool->mutex);
    }
    return true;
}

static bool ft__pool_has_work(ft__pool *pool)
{
    uint64_t ticket = FT__LOAD(pool->ticket);
    return (int)(ticket & 0xffffffffu) < FT__LOAD_LOOSE(pool->jobs[ticket >> 32 & 1].count);
}

static void ft__pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static void *ft__pool_thread(void *argument)
{
    ft__pool *pool = (ft__pool *)argument;
    while (!FT__LOAD(pool->quit)) {
        uint64_t seen;
        int looks = 0;
        do seen = FT__LOAD(pool->ticket); while (ft__pool_take(pool));
        while (looks++ < FT__LOOKS && FT__LOAD(pool->ticket) == seen) ft__pause();
        if (FT__LOAD(pool->ticket) != seen) continue;
        pthread_mutex_lock(&pool->mutex);
        FT__ADD(pool->sleeping, 1);
        while (!ft__pool_has_work(pool) && !FT__LOAD(pool->quit))
            pthread_cond_wait(&pool->work, &pool->mutex);
        FT__ADD(pool->sleeping, -1);
        pthread_mutex_unlock(&pool->mutex);
    }
    return NULL;
}

/* The calling thread's part: starts the job, helps, and waits for the last index. */
static void ft__pool_run(ft__pool *pool, int count, ft__body body, void *context)
{
    int looks = 0;
    uint64_t job = (FT__LOAD(pool->ticket) >> 32) + 1;
    FT__STORE_LOOSE(pool->jobs[job & 1].body, body);
    FT__STORE_LOOSE(pool->jobs[job & 1].context, context);
    FT__STORE_LOOSE(pool->jobs[job & 1].count, count);
    pool->wanted += (uint64_t)count;
    FT__STORE(pool->ticket, job << 32);
    if (FT__LOAD(pool->sleeping) > 0) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_broadcast(&pool->work);
        pthread_mutex_unlock(&pool->mutex);
    }
    while (ft__pool_take(pool)) {}
    while (looks++ < FT__LOOKS && FT__LOAD(pool->finished) != pool->wanted) ft__pause();
    if (FT__LOAD(pool->finished) == pool->wanted) return;
    pthread_mutex_lock(&pool->mutex);
    FT__STORE(pool->waiting, true);
    while (FT__LOAD(pool->finished) != pool->wanted)
        pthread_cond_wait(&pool->done, &pool->mutex);
    FT__STORE(pool->waiting, false);
    pthread_mutex_unlock(&pool->mutex);
}

static int ft__processors(void)
{
#if FINETUNE__POSIX && defined(_SC_NPROCESSORS_ONLN)
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count < 1 ? 1 : count > 64 ? 64 : (int)count;
#else
    return 1;
#endif
}

/* No more threads than processors: more would only take time from those that have work (8 threads
   on 2 processors: an MLP's steps took 1.9 times as long). Work is still split for c->threads. */
static void ft__pool_create(ft__context *c)
{
    ft__pool *pool;
    int i, count = c->threads < ft__processors() ? c->threads : ft__processors();
    if (count < 2 || c->desc.parallel_for) return;
    pool = (ft__pool *)ft__allocate(c, 1, sizeof *pool);
    if (!pool) return;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->done, NULL);
    for (i = 0; i < count - 1; ++i) { /* the calling thread is one of them */
        if (pthread_create(&pool->threads[i], NULL, ft__pool_thread, pool) != 0) break;
        pool->thread_count += 1;
    }
    c->pool = pool;
}

static void ft__pool_destroy(ft__context *c)
{
    ft__pool *pool = c->pool;
    int i;
    if (!pool) return;
    pthread_mutex_lock(&pool->mutex);
    FT__STORE(pool->quit, true);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
    for (i = 0; i < pool->thread_count; ++i) pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->done);
    pthread_mutex_destroy(&pool->mutex);
    ft__release(c, pool);
    c->pool = NULL;
}
#else
static void ft__pool_create(ft__context *c) { (void)c; }
static void ft__pool_destroy(ft__context *c) { (void)c; }
static int ft__processors(void) { return 1; }
#endif

static void ft__parallel(ft__context *c, int count, ft__body body, void *context)
{
    int i;
    if (count > 1 && c->desc.parallel_for) {
        c->desc.parallel_for(c->desc.parallel_user, body, context, count);
        return;
    }
#ifndef FINETUNE_NO_THREADS
    if (count > 1 && c->pool) {
        ft__pool_run(c->pool, count, body, context);
        return;
    }
#endif
    for (i = 0; i < count; ++i) body(context, i);
}

/* Hands out the pieces [0, end) of one job to slots, one per thread. Slot i takes the i-th part
   first, then what the others have left: so a thread that is interrupted takes fewer. The parts are
   the same for every job: what a slot's thread wrote in one operator, it mostly reads in the next,
   from its own cache. (MobileNet's prediction, 2 threads: 1.2 times as fast as with pieces handed
   out one by one.) ft__parallel_slots starts the slots; *share is 0 before the first piece. */
static size_t ft__next_piece(ft__context *c, size_t end, int slot, int *share)
{
    for (; *share < c->threads; ++*share) {
        size_t threads = (size_t)c->threads, part = (size_t)(slot + *share) % threads, piece;
#if defined(__GNUC__)
        piece = __atomic_fetch_add(c->taken[part], 1, __ATOMIC_RELAXED);
#else
        if (*share > 0) break; /* without atomics: only its own part */
        piece = c->taken[part][0]++;
#endif
        piece += end * part / threads;
        if (piece < end * (part + 1) / threads) return piece;
    }
    return end;
}

#define FT__PIECES(i, share, c, slot, end)                                                        \
    for (share = 0, i = ft__next_piece(c, end, slot, &share); i < (end);                          \
         i = ft__next_piece(c, end, slot, &share))

static void ft__parallel_slots(ft__context *c, ft__body slot, void *context)
{
    int i;
    for (i = 0; i < c->threads; ++i) c->taken[i][0] = 0;
    ft__parallel(c, c->threads, slot, context);
}

#define FT__CHUNK ((size_t)1 << 14) /* elements per index of a parallel loop */

static int ft__chunks(size_t count) { return (int)((count + FT__CHUNK - 1) / FT__CHUNK); }
