/* Instructions are counted from probe_start to probe_stop, and written under a name; valgrind's callgrind counts. */
#include <valgrind/callgrind.h>

int probe_there(void) { return RUNNING_ON_VALGRIND; }

void probe_start(void) {
    CALLGRIND_ZERO_STATS;
    CALLGRIND_START_INSTRUMENTATION;
}

void probe_stop(const char *name) {
    CALLGRIND_STOP_INSTRUMENTATION;
    CALLGRIND_DUMP_STATS_AT(name);
}
