/* A job file: how many frames, and each with its broker's port and the places that a Fetch changes. All numbers little endian, 32 bits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

#define FRAME_BYTES_MAX (512u << 20)
#define FRAMES_MAX (1u << 20)

static uint32_t number(FILE *file) {
    uint32_t value;
    if (fread(&value, sizeof value, 1, file) != 1) die("the job file ends too early");
    return value;
}

static int64_t offset_at(const uint8_t *bytes) {
    uint64_t value = 0;
    for (int i = 0; i < 8; i++) value = value << 8 | bytes[i];
    return (int64_t)value;
}

static void frame_read(struct frame *frame, FILE *file) {
    frame->port = (uint16_t)number(file);
    frame->size = number(file);
    if (frame->size < 12 || frame->size > FRAME_BYTES_MAX) die("a frame of that size?");
    frame->bytes = malloc(frame->size);
    if (frame->bytes == NULL) die("no memory");
    if (fread(frame->bytes, 1, frame->size, file) != frame->size) die("the job file ends too early");
    frame->place_count = number(file);
    if (frame->place_count > FRAMES_MAX) die("so many places?");
    frame->places = calloc(frame->place_count ? frame->place_count : 1, sizeof *frame->places);
    if (frame->places == NULL) die("no memory");
    for (uint32_t i = 0; i < frame->place_count; i++) {
        struct place *place = &frame->places[i];
        place->partition = (int32_t)number(file);
        place->position = number(file);
        if (place->position + 8 > frame->size) die("a place behind the frame's end");
        place->offset = offset_at(frame->bytes + place->position);
    }
}

void job_read(struct job *job, const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) die("no job file");
    job->frame_count = number(file);
    if (job->frame_count < 1 || job->frame_count > FRAMES_MAX) die("so many frames?");
    job->frames = calloc(job->frame_count, sizeof *job->frames);
    if (job->frames == NULL) die("no memory");
    for (uint32_t i = 0; i < job->frame_count; i++) frame_read(&job->frames[i], file);
    fclose(file);
}
