/* The load generator's rooms: a job (what is sent), answers (what comes back), latencies, and the loop in load.c. */
#ifndef OTTLA_LOAD_H
#define OTTLA_LOAD_H

#include <stddef.h>
#include <stdint.h>

/* KIND_TAIL is a Fetch that waits at the end for what comes, where KIND_FETCH begins again. */
enum kind { KIND_PRODUCE = 0, KIND_FETCH = 1, KIND_OTHER = 2, KIND_TAIL = 3 };

/* Where a request holds the offset that the next Fetch of a partition begins at. */
struct place {
    int32_t partition;
    uint32_t position; /* in the frame, of 8 bytes, big endian */
    int64_t offset;    /* what stands there */
};

struct frame {
    uint8_t *bytes; /* with the four of its length */
    uint32_t size;
    uint16_t port; /* of the broker that takes it */
    uint32_t place_count;
    struct place *places;
};

struct job {
    struct frame *frames;
    uint32_t frame_count;
};

/* Read a job file (bench/peers/load/__init__.py says how it is laid out); ends the process where it is not one. */
void job_read(struct job *job, const char *path);

/* What one answer said. */
struct answer {
    int16_t error;         /* the first error code that is not 0 */
    uint64_t record_bytes; /* of all batches in it */
    uint64_t records;
};

/* Look at a whole answer, without its length; moves the places of the request on. -1 where it makes no sense. */
int answer_read(enum kind kind, const uint8_t *bytes, size_t size, struct frame *asked, struct answer *found);

/* Latencies, in nanoseconds, all kept. */
struct latencies {
    uint32_t *microseconds_x16; /* in sixteenths of a microsecond */
    size_t count, room;
};

void latencies_add(struct latencies *all, int64_t ns);
/* Sort them, print them as members of a JSON object whose names begin so. */
void latencies_print(struct latencies *all, const char *name);

void die(const char *why);

#endif
