/* Every latency is kept, so that a percentile is one that happened and no bucket's edge. */
#include <stdio.h>
#include <stdlib.h>

#include "load.h"

#define NS_A_STEP_X16 1000 /* sixteen steps a microsecond */

void latencies_add(struct latencies *all, int64_t ns) {
    if (all->count == all->room) {
        all->room = all->room ? all->room * 2 : 1 << 16;
        all->microseconds_x16 = realloc(all->microseconds_x16, all->room * sizeof *all->microseconds_x16);
        if (all->microseconds_x16 == NULL) die("no memory");
    }
    int64_t steps = ns * 16 / NS_A_STEP_X16;
    if (steps < 0) steps = 0;
    if (steps > UINT32_MAX) steps = UINT32_MAX;
    all->microseconds_x16[all->count++] = (uint32_t)steps;
}

static int smaller_first(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double percentile(const struct latencies *all, double part) {
    size_t at = (size_t)(part * (double)all->count);
    if (at >= all->count) at = all->count - 1;
    return all->microseconds_x16[at] / 16.0;
}

void latencies_print(struct latencies *all, const char *name) {
    if (all->count == 0) return;
    qsort(all->microseconds_x16, all->count, sizeof *all->microseconds_x16, smaller_first);
    const char *of[] = {"p50", "p90", "p99", "p999", "max"};
    double parts[] = {0.5, 0.9, 0.99, 0.999, 1.0};
    for (int i = 0; i < 5; i++) printf(", \"%s%s_us\": %.2f", name, of[i], percentile(all, parts[i]));
}
