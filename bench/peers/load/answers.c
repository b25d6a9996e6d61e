/* Answers to Produce 9 and Fetch 12, read as far as the load generator needs them: errors, and how far it got. */
#include <stdlib.h>
#include <string.h>

#include "load.h"

#define BATCH_HEAD 61
#define LAST_DELTA_AT 23

struct cursor {
    const uint8_t *at, *end;
    int bad;
};

static uint64_t take(struct cursor *c, int size) {
    uint64_t value = 0;
    if (c->bad || c->end - c->at < size) {
        c->bad = 1;
        return 0;
    }
    for (int i = 0; i < size; i++) value = value << 8 | *c->at++;
    return value;
}

static uint32_t varint(struct cursor *c) {
    uint32_t value = 0;
    for (int shift = 0; shift < 35; shift += 7) {
        uint8_t byte = (uint8_t)take(c, 1);
        value |= (uint32_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) return value;
    }
    c->bad = 1;
    return 0;
}

static const uint8_t *skip(struct cursor *c, uint64_t size) {
    const uint8_t *at = c->at;
    if (c->bad || (uint64_t)(c->end - c->at) < size) {
        c->bad = 1;
        return at;
    }
    c->at += size;
    return at;
}

/* A compact string, bytes or array's count: one less than what stands there, and null is none. */
static uint32_t compact(struct cursor *c) {
    uint32_t value = varint(c);
    return value ? value - 1 : 0;
}

static void tags(struct cursor *c) {
    for (uint32_t left = varint(c); left && !c->bad; left--) {
        varint(c);
        skip(c, varint(c));
    }
}

static void note(struct answer *found, uint64_t code) {
    if (!found->error) found->error = (int16_t)code;
}

static void produce_partition(struct cursor *c, struct answer *found) {
    take(c, 4);
    note(found, take(c, 2));
    skip(c, 8 + 8 + 8); /* base offset, append time, log start */
    for (uint32_t left = compact(c); left && !c->bad; left--) {
        take(c, 4);
        skip(c, compact(c));
        tags(c);
    }
    skip(c, compact(c));
    tags(c);
}

static void read_produce(struct cursor *c, struct answer *found) {
    for (uint32_t topics = compact(c); topics && !c->bad; topics--) {
        skip(c, compact(c));
        for (uint32_t left = compact(c); left && !c->bad; left--) produce_partition(c, found);
        tags(c);
    }
    take(c, 4);
    tags(c);
}

/* The offset behind the last whole batch; -1 where there is none. */
static int64_t walk_batches(const uint8_t *at, size_t size, struct answer *found) {
    int64_t next = -1;
    while (size >= BATCH_HEAD) {
        struct cursor head = {at, at + size, 0};
        int64_t base = (int64_t)take(&head, 8);
        size_t whole = 12 + (size_t)take(&head, 4);
        if (whole < BATCH_HEAD || whole > size) break;
        struct cursor delta = {at + LAST_DELTA_AT, at + size, 0};
        uint32_t last = (uint32_t)take(&delta, 4);
        next = base + last + 1;
        found->records += last + 1;
        found->record_bytes += whole;
        at += whole;
        size -= whole;
    }
    return next;
}

static void move_on(struct frame *asked, int32_t partition, int64_t next, int64_t end, int again) {
    for (uint32_t i = 0; i < asked->place_count; i++) {
        struct place *place = &asked->places[i];
        if (place->partition != partition) continue;
        if (next >= 0) place->offset = again && next >= end ? 0 : next; /* at its end: once more from the start */
        for (int byte = 0; byte < 8; byte++)
            asked->bytes[place->position + byte] = (uint8_t)((uint64_t)place->offset >> (56 - 8 * byte));
    }
}

static void fetch_partition(struct cursor *c, struct frame *asked, struct answer *found, int again) {
    int32_t partition = (int32_t)take(c, 4);
    note(found, take(c, 2));
    int64_t end = (int64_t)take(c, 8);
    skip(c, 8 + 8); /* last stable offset, log start */
    for (uint32_t left = compact(c); left && !c->bad; left--) {
        skip(c, 16);
        tags(c);
    }
    take(c, 4); /* preferred read replica */
    uint32_t size = compact(c);
    const uint8_t *records = skip(c, size);
    tags(c);
    if (!c->bad) move_on(asked, partition, walk_batches(records, size, found), end, again);
}

static void read_fetch(struct cursor *c, struct frame *asked, struct answer *found, int again) {
    take(c, 4);
    note(found, take(c, 2));
    take(c, 4);
    for (uint32_t topics = compact(c); topics && !c->bad; topics--) {
        skip(c, compact(c));
        for (uint32_t left = compact(c); left && !c->bad; left--) fetch_partition(c, asked, found, again);
        tags(c);
    }
    tags(c);
}

int answer_read(enum kind kind, const uint8_t *bytes, size_t size, struct frame *asked, struct answer *found) {
    struct cursor c = {bytes, bytes + size, 0};
    memset(found, 0, sizeof *found);
    if (kind == KIND_OTHER) return 0;
    take(&c, 4); /* the correlation id, looked at by who sent it */
    tags(&c);
    if (kind == KIND_PRODUCE)
        read_produce(&c, found);
    else
        read_fetch(&c, asked, found, kind == KIND_FETCH);
    return c.bad || c.at != c.end ? -1 : 0;
}
