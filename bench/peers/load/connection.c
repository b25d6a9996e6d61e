#include "connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LEAST_BUFFER (64u << 10)
#define ANSWER_BYTES_MAX (256u << 20)
#define COPIED_BELOW (64u << 10) /* smaller requests are laid out several times, to be sent together */

static uint32_t big_endian(const uint8_t *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

int connect_to(uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (fd < 0) die("no socket");
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) die("no connection");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return fd;
}

static void number_frame(struct frame *frame, uint32_t number) {
    for (int i = 0; i < 4; i++) frame->bytes[8 + i] = (uint8_t)(number >> (24 - 8 * i));
}

static void lay_out(struct connection *c, const struct job *job, uint32_t index, uint32_t step, uint32_t depth) {
    uint32_t own = (job->frame_count - index + step - 1) / step, copies = 1;
    size_t size = 0;
    for (uint32_t i = 0; i < own; i++) size += job->frames[index + i * step].size;
    if (size / own < COPIED_BELOW && job->frames[index].place_count == 0) copies = (depth + own - 1) / own;
    if (copies > 4096) copies = 4096;
    if (size * copies > UINT32_MAX / 2) die("too much to lay out");
    c->frame_count = own * copies;
    c->frames = calloc(c->frame_count, sizeof *c->frames);
    c->ends = calloc(c->frame_count, sizeof *c->ends);
    c->image = malloc(size * copies);
    if (c->frames == NULL || c->ends == NULL || c->image == NULL) die("no memory");
    uint32_t at = 0;
    for (uint32_t i = 0; i < c->frame_count; i++) {
        c->frames[i] = job->frames[index + i % own * step];
        memcpy(c->image + at, c->frames[i].bytes, c->frames[i].size);
        c->frames[i].bytes = c->image + at;
        number_frame(&c->frames[i], i);
        at += c->frames[i].size;
        c->ends[i] = at;
    }
}

void connection_open(struct connection *c, enum kind kind, const struct job *job, uint32_t index, uint32_t step,
                     uint32_t depth) {
    memset(c, 0, sizeof *c);
    c->kind = kind;
    index %= job->frame_count;
    for (uint32_t i = index; i < job->frame_count; i += step)
        if (job->frames[i].port != job->frames[index].port) die("a connection's frames are for one broker");
    c->fd = connect_to(job->frames[index].port);
    lay_out(c, job, index, step, depth);
    c->room = LEAST_BUFFER;
    c->buffer = malloc(c->room);
    c->stamps = malloc(STAMPS * sizeof *c->stamps);
    if (c->buffer == NULL || c->stamps == NULL) die("no memory");
}

void connection_follow(struct connection *c, const struct connection *writers, uint32_t writer_count) {
    c->writers = writers;
    c->writer_count = writer_count;
    c->seen = calloc(c->frames[0].place_count + 1, sizeof *c->seen);
    if (c->seen == NULL) die("no memory");
    for (uint32_t i = 0; i < c->frames[0].place_count; i++) {
        int32_t partition = c->frames[0].places[i].partition;
        if (partition < 0 || (uint32_t)partition >= writer_count) die("nobody writes to that partition");
    }
}

void connection_permit(struct connection *c, int64_t when, struct totals *totals) {
    if (c->permitted - c->answered >= STAMPS) die("the broker does not keep up with the rate");
    c->stamps[c->permitted++ % STAMPS] = when;
    totals->permitted++;
}

void connection_send(struct connection *c, struct totals *totals) {
    while (c->sent < c->permitted) {
        uint32_t number = (uint32_t)(c->sent % c->frame_count);
        uint64_t last = number + (c->permitted - c->sent) - 1;
        if (last >= c->frame_count) last = c->frame_count - 1;
        ssize_t count = send(c->fd, c->image + c->position, c->ends[last] - c->position, MSG_NOSIGNAL);
        if (count < 0) {
            if (errno == EAGAIN || errno == EINTR) return;
            die("the broker hung up");
        }
        c->position += (uint32_t)count;
        totals->sent_bytes += (uint64_t)count;
        while (number < c->frame_count && c->position >= c->ends[number]) {
            number++;
            c->sent++;
        }
        if (number < c->frame_count && c->sent < c->permitted) return; /* the socket is full */
        if (c->position == c->ends[c->frame_count - 1]) c->position = 0;
    }
}

/* The records that a tail has now: how long after they were to be sent they came. */
static void note_arrivals(struct connection *c, const struct frame *frame, int64_t now, struct latencies *latencies) {
    for (uint32_t i = 0; i < frame->place_count; i++) {
        const struct connection *writer = &c->writers[frame->places[i].partition];
        for (; c->seen[i] < frame->places[i].offset; c->seen[i]++) {
            uint64_t number = (uint64_t)c->seen[i];
            if (number >= writer->permitted || writer->permitted - number > STAMPS) die("a record that nobody sent");
            latencies_add(latencies, now - writer->stamps[number % STAMPS]);
        }
    }
}

static void take_answer(struct connection *c, const uint8_t *bytes, size_t size, int64_t now, struct totals *totals) {
    uint32_t number = (uint32_t)(c->answered % c->frame_count);
    struct answer found;
    if (size < 4 || big_endian(bytes) != number) die("an answer to another request");
    if (answer_read(c->kind, bytes, size, &c->frames[number], &found) < 0) die("an answer that makes no sense");
    if (found.error) {
        totals->errors++;
        if (!totals->first_error) totals->first_error = found.error;
    }
    totals->records += found.records;
    totals->record_bytes += found.record_bytes;
    if (c->kind == KIND_TAIL)
        note_arrivals(c, &c->frames[number], now, &totals->latencies);
    else
        latencies_add(&totals->latencies, now - c->stamps[c->answered % STAMPS]);
    c->answered++;
    totals->answered++;
}

/* Take the whole answers out of the buffer; how many bytes the next one needs. */
static size_t take_answers(struct connection *c, int64_t now, struct totals *totals, uint32_t *done) {
    size_t at = 0, wanted = LEAST_BUFFER;
    while (c->have - at >= 4) {
        size_t size = big_endian(c->buffer + at);
        if (size > ANSWER_BYTES_MAX) die("an answer of that size?");
        if (c->have - at - 4 < size) {
            wanted = size + 4;
            break;
        }
        take_answer(c, c->buffer + at + 4, size, now, totals);
        (*done)++;
        at += 4 + size;
    }
    if (at) memmove(c->buffer, c->buffer + at, c->have - at);
    c->have -= at;
    return wanted;
}

uint32_t connection_receive(struct connection *c, int64_t now, struct totals *totals) {
    uint32_t done = 0;
    for (;;) {
        size_t asked = c->room - c->have;
        ssize_t count = recv(c->fd, c->buffer + c->have, asked, 0);
        if (count == 0) die("the broker hung up");
        if (count < 0) {
            if (errno == EAGAIN) return done;
            if (errno == EINTR) continue;
            die("the broker hung up");
        }
        totals->received_bytes += (uint64_t)count;
        c->have += (size_t)count;
        size_t wanted = take_answers(c, now, totals, &done);
        if (wanted > c->room) {
            c->room = wanted;
            c->buffer = realloc(c->buffer, c->room);
            if (c->buffer == NULL) die("no memory");
        } else if ((size_t)count < asked) {
            return done; /* that was all: the next event tells of more */
        }
    }
}
