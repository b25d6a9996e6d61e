/*
 * Replays prebuilt requests against a broker, so that the broker is the limit and not its client.
 *
 *   load job=FILE kind=produce|fetch|other connections=N depth=N seconds=S [requests=N] [rate=R] [idle=N] [readers=N]
 *
 * Closed loop (no rate): `depth` requests are on their way on each connection. Open loop: the request number i is to
 * be sent at i / rate seconds, on the connections in turn, however late the answers are; a latency counts from then.
 * It ends after `seconds`, or after `requests`, once everything is answered, and prints a JSON object. How long after
 * that time a request was sent indeed is printed, too (`late`): what is so late is our own doing.
 *
 * With readers the last N frames of the job are Fetches, each on a connection of its own, one on its way always. Each
 * produced record is awaited there, too: `end` is when it came. The producing connection p writes to the partition p,
 * which is empty before, one record a request.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

#include "connection.h"

#define NS 1000000000LL
#define DRAIN_S 60
#define EVENTS 256

struct options {
    const char *job;
    enum kind kind;
    uint32_t connections, depth, idle, readers;
    uint64_t requests;
    double seconds, rate;
};

struct run {
    struct options options;
    struct connection *connections; /* the readers' behind the others */
    struct totals totals, read;
    struct latencies late;
    int epoll;
    int64_t begin, end;
    uint64_t scheduled; /* in an open loop: how many were due so far */
};

void die(const char *why) {
    fprintf(stderr, "load: %s%s%s\n", why, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * NS + at.tv_nsec;
}

static double cpu_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static enum kind kind_of(const char *name) {
    if (!strcmp(name, "produce")) return KIND_PRODUCE;
    if (!strcmp(name, "fetch")) return KIND_FETCH;
    if (!strcmp(name, "other")) return KIND_OTHER;
    die("what kind of request?");
    return KIND_OTHER;
}

static void option(struct options *options, const char *argument) {
    const char *value = strchr(argument, '=');
    if (value == NULL) die("an option is NAME=VALUE");
    size_t size = (size_t)(value++ - argument);
#define IS(name) (size == sizeof name - 1 && !strncmp(argument, name, size))
    if (IS("job")) options->job = value;
    else if (IS("kind")) options->kind = kind_of(value);
    else if (IS("connections")) options->connections = (uint32_t)atol(value);
    else if (IS("depth")) options->depth = (uint32_t)atol(value);
    else if (IS("idle")) options->idle = (uint32_t)atol(value);
    else if (IS("readers")) options->readers = (uint32_t)atol(value);
    else if (IS("requests")) options->requests = (uint64_t)atoll(value);
    else if (IS("seconds")) options->seconds = atof(value);
    else if (IS("rate")) options->rate = atof(value);
    else die("an unknown option");
#undef IS
}

static void open_all(struct run *run) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct job job;
    job_read(&job, run->options.job);
    for (uint32_t i = 0; i < run->options.idle; i++) connect_to(job.frames[0].port);
    uint32_t writers = run->options.connections, readers = run->options.readers;
    if (readers >= job.frame_count) die("no frame is left to be written");
    struct job written = {job.frames, job.frame_count - readers}, read = {job.frames + written.frame_count, readers};
    run->connections = calloc(writers + readers, sizeof *run->connections);
    run->epoll = epoll_create1(0);
    if (run->connections == NULL || run->epoll < 0) die("no memory");
    for (uint32_t i = 0; i < writers + readers; i++) {
        if (i < writers)
            connection_open(&run->connections[i], run->options.kind, &written, i, writers, run->options.depth);
        else {
            connection_open(&run->connections[i], KIND_TAIL, &read, i - writers, readers, 1);
            connection_follow(&run->connections[i], run->connections, writers);
        }
        struct epoll_event wanted = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u32 = i};
        if (epoll_ctl(run->epoll, EPOLL_CTL_ADD, run->connections[i].fd, &wanted) < 0) die("epoll");
    }
}

static int may_go_on(const struct run *run, int64_t now) {
    if (run->options.requests && run->totals.permitted >= run->options.requests) return 0;
    return now < run->end;
}

/* A closed loop: as many as are missing to the depth. */
static void refill(struct run *run, struct connection *c, int64_t now) {
    while (c->permitted - c->answered < run->options.depth && may_go_on(run, now))
        connection_permit(c, now, &run->totals);
    connection_send(c, &run->totals);
}

/* An open loop: when the next one is to be sent. */
static int64_t next_due(const struct run *run) {
    return run->begin + (int64_t)llround((double)run->scheduled * (double)NS / run->options.rate);
}

/* Whether more is to be sent; in an open loop also what was due before the end, however late it is now. */
static int is_more_to_send(const struct run *run, int64_t now) {
    return may_go_on(run, run->options.rate > 0 ? next_due(run) : now);
}

/* An open loop: all that are due. Returns when the next one is. */
static int64_t send_due(struct run *run, int64_t now) {
    for (;;) {
        int64_t due = next_due(run);
        if (due > now || !may_go_on(run, due)) return due;
        struct connection *c = &run->connections[run->scheduled++ % run->options.connections];
        connection_permit(c, due, &run->totals);
        latencies_add(&run->late, now_ns() - due);
        connection_send(c, &run->totals);
    }
}

/* A reader always asks for more. */
static void ask_again(struct run *run, struct connection *c, int64_t now) {
    if (c->permitted == c->answered) connection_permit(c, now, &run->read);
    connection_send(c, &run->read);
}

static void await_events(struct run *run, int64_t until) {
    struct epoll_event events[EVENTS];
    int64_t left = until - now_ns();
    if (left < 0) left = 0;
    struct timespec wait = {left / NS, left % NS};
    int count = epoll_pwait2(run->epoll, events, EVENTS, &wait, NULL);
    if (count < 0 && errno != EINTR) die("epoll");
    for (int i = 0; i < count; i++) {
        int64_t now = now_ns(); /* each its own: the last of many was looked at long after the first */
        struct connection *c = &run->connections[events[i].data.u32];
        struct totals *totals = c->kind == KIND_TAIL ? &run->read : &run->totals;
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) connection_receive(c, now, totals);
        if (c->kind == KIND_TAIL)
            ask_again(run, c, now);
        else if (run->options.rate > 0)
            connection_send(c, &run->totals);
        else
            refill(run, c, now);
    }
}

static int is_owed(const struct run *run) {
    return run->totals.answered < run->totals.permitted ||
           (run->options.readers && run->read.records < run->totals.answered);
}

static void replay(struct run *run) {
    for (uint32_t i = 0; i < run->options.readers; i++)
        ask_again(run, &run->connections[run->options.connections + i], now_ns());
    run->begin = now_ns();
    run->end = run->begin + (int64_t)(run->options.seconds * (double)NS);
    if (run->options.rate <= 0)
        for (uint32_t i = 0; i < run->options.connections; i++) refill(run, &run->connections[i], run->begin);
    int64_t now = run->begin;
    while (is_more_to_send(run, now) || is_owed(run)) {
        int64_t until = run->end > now ? run->end : now + NS / 10;
        if (run->options.rate > 0 && is_more_to_send(run, now)) {
            int64_t due = send_due(run, now);
            if (due < until) until = due;
        }
        await_events(run, until);
        now = now_ns();
        if (now > run->end + DRAIN_S * NS) die("requests without an answer");
    }
}

int main(int count, char **arguments) {
    struct run run = {.options = {.connections = 1, .depth = 1, .seconds = 1}};
    for (int i = 1; i < count; i++) option(&run.options, arguments[i]);
    if (run.options.job == NULL || run.options.connections < 1 || run.options.depth < 1) die("what is to be done?");
    if (run.options.depth > STAMPS) die("so deep?");
    prctl(PR_SET_TIMERSLACK, 1);
    open_all(&run);
    errno = 0;
    double cpu = cpu_seconds();
    replay(&run);
    double seconds = (double)(now_ns() - run.begin) / NS;
    struct totals *t = &run.totals;
    printf("{\"requests\": %llu, \"errors\": %llu, \"first_error\": %d, \"seconds\": %.6f, \"client_cpu_s\": %.6f, "
           "\"sent_bytes\": %llu, \"received_bytes\": %llu, \"record_bytes\": %llu, \"records\": %llu",
           (unsigned long long)t->answered, (unsigned long long)(t->errors + run.read.errors),
           t->errors ? t->first_error : run.read.first_error, seconds,
           cpu_seconds() - cpu, (unsigned long long)t->sent_bytes, (unsigned long long)t->received_bytes,
           (unsigned long long)(t->record_bytes + run.read.record_bytes),
           (unsigned long long)(t->records + run.read.records));
    latencies_print(&t->latencies, "");
    latencies_print(&run.late, "late_");
    latencies_print(&run.read.latencies, "end_");
    printf("}\n");
    return 0;
}
