/* Memory kernels: sequential read, write and copy, and a dependent pointer chase.
 *
 * Each call waits at a gate until its whole team has arrived, takes the time (CLOCK_MONOTONIC, the
 * clock of Python's time.monotonic), runs, and takes the time again. Gate and clock are in here
 * because a thread that returned to Python first would wait for the interpreter lock between them.
 *
 * Stores are plain, not non-temporal: they are what programs use, so a line is read into the cache
 * before it is written unless the CPU avoids that by itself. Figures count the bytes that the
 * program asked for, as STREAM does (McCalpin, "Memory Bandwidth and Machine Balance", 1995).
 *
 * Loops move a cache line as one vector, which the compiler splits into what the CPU has, and say
 * to the compiler that memory may have changed: otherwise it may replace a loop by memset or memcpy,
 * whose stores depend on the C library, or run one pass only.
 *
 * Addresses and sizes are multiples of LINE.
 */
#define _POSIX_C_SOURCE 200809L
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define LINE 64
#define COMPILER_BARRIER() __asm__ volatile("" ::: "memory")

/* may_alias: the same memory is also accessed as other types. */
typedef uint64_t line_t __attribute__((vector_size(LINE), may_alias));

#ifndef KERNELS_ID
#define KERNELS_ID ""
#endif

/* Which build this is: compared with the one that Python expects. */
const char *memory_kernels_id(void) { return KERNELS_ID; }

/* Where a team starts, and when this member did. A team of one does not wait. */
struct call {
    uint32_t *arrived;
    uint32_t team;
    int64_t limit_ns;
    int64_t begin_ns, end_ns;
};

static int64_t read_clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Returns 0, or -1 when the others did not come within the limit. */
static int start(struct call *call) {
    call->end_ns = -1;
    if (call->team > 1) {
        int64_t give_up = read_clock_ns() + call->limit_ns;
        uint32_t looks = 0;
        __atomic_add_fetch(call->arrived, 1, __ATOMIC_ACQ_REL);
        while (__atomic_load_n(call->arrived, __ATOMIC_ACQUIRE) < call->team) {
            if (++looks % 1024)
                continue;
            /* More threads than free CPUs: let the others arrive. */
            sched_yield();
            if (read_clock_ns() > give_up)
                return -1;
        }
    }
    call->begin_ns = read_clock_ns();
    return 0;
}

static void stop(struct call *call) { call->end_ns = read_clock_ns(); }

/* The sum of all 64-bit words of all passes, modulo 2^64. */
uint64_t memory_read(struct call *call, const line_t *lines, size_t bytes, size_t passes) {
    /* Four sums: additions do not wait for each other. */
    line_t a = {0}, b = {0}, c = {0}, d = {0};
    size_t count = bytes / LINE;
    if (start(call))
        return 0;
    for (size_t pass = 0; pass < passes; pass++) {
        size_t i = 0;
        for (; i + 4 <= count; i += 4) {
            a += lines[i];
            b += lines[i + 1];
            c += lines[i + 2];
            d += lines[i + 3];
        }
        for (; i < count; i++)
            a += lines[i];
        COMPILER_BARRIER();
    }
    stop(call);
    a += b + c + d;
    uint64_t sum = 0;
    for (int i = 0; i < LINE / 8; i++)
        sum += a[i];
    return sum;
}

/* Every word becomes `value`. */
void memory_write(struct call *call, line_t *lines, size_t bytes, size_t passes, uint64_t value) {
    line_t line = {value, value, value, value, value, value, value, value};
    size_t count = bytes / LINE;
    if (start(call))
        return;
    for (size_t pass = 0; pass < passes; pass++)
        for (size_t i = 0; i < count; i++) {
            lines[i] = line;
            COMPILER_BARRIER();
        }
    stop(call);
}

void memory_copy(struct call *call, line_t *target, const line_t *source, size_t bytes,
                 size_t passes) {
    size_t count = bytes / LINE;
    if (start(call))
        return;
    for (size_t pass = 0; pass < passes; pass++)
        for (size_t i = 0; i < count; i++) {
            target[i] = source[i];
            COMPILER_BARRIER();
        }
    stop(call);
}

/* Follows a chain in which each line begins with the address of the next; the address it reaches.
 * No load can start before the one before it has ended. */
uint64_t memory_chase(struct call *call, const void *first, size_t loads) {
    void *const volatile *next = first;
    if (start(call))
        return 0;
    for (size_t i = 0; i < loads; i++)
        next = *next;
    stop(call);
    return (uint64_t)(uintptr_t)next;
}
