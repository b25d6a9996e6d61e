/* One connection: requests out of an image of them, answers in order. */
#ifndef OTTLA_CONNECTION_H
#define OTTLA_CONNECTION_H

#include "load.h"

#define STAMPS (1u << 16) /* so many may be on their way */

struct connection {
    int fd;
    enum kind kind;
    const struct connection *writers; /* of a tail: the connection number p writes to the partition p, from offset 0 on */
    uint32_t writer_count;
    int64_t *seen; /* of a tail: up to which offset each of its places has been read */
    struct frame *frames; /* what is sent in turn; they lie one behind the other in memory, numbered from 0 */
    uint32_t frame_count;
    uint32_t *ends; /* where each ends in the image */
    uint8_t *image;
    uint32_t position;   /* in the image: what is sent next */
    uint64_t permitted;  /* how many requests may have been sent */
    uint64_t sent;       /* how many have been, wholly */
    uint64_t answered;
    int64_t *stamps;     /* when each was to be sent, in ns, by its number modulo STAMPS */
    uint8_t *buffer;
    size_t have, room;
};

/* What is counted over all connections. */
struct totals {
    uint64_t permitted, answered, errors, sent_bytes, received_bytes, record_bytes, records;
    int16_t first_error;
    struct latencies latencies; /* of a tail's: until a record was there to be read */
};

/* A socket to that port of the loopback. */
int connect_to(uint16_t port);
/* Connect, and lay out the frames number `index`, `index + step`, ... of the job, all for the same broker. */
void connection_open(struct connection *c, enum kind kind, const struct job *job, uint32_t index, uint32_t step,
                     uint32_t depth);
/* It is to tell when each record came that these have sent, one a request. */
void connection_follow(struct connection *c, const struct connection *writers, uint32_t writer_count);
/* One request more may be sent, as of that time. */
void connection_permit(struct connection *c, int64_t when, struct totals *totals);
/* Send what is permitted and what the socket takes. */
void connection_send(struct connection *c, struct totals *totals);
/* Take what has come; how many answers that completed. */
uint32_t connection_receive(struct connection *c, int64_t now, struct totals *totals);

#endif
