/* A stand-in for libedgetpu, which cannot be had here: a TFLite delegate that takes over nothing.
   STUB says how it behaves; the options it was given are appended to the file that STUB_SEEN names. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct delegate {
    void *data;
    int (*prepare)(void *context, struct delegate *self);
    void *copy_from, *copy_to, *free_handle;
    int64_t flags;
    void *builder;
};

static int prepare(void *context, struct delegate *self) { return 0; }

void *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
    const char *stub = getenv("STUB"), *seen = getenv("STUB_SEEN");
    if (seen) {
        FILE *file = fopen(seen, "a");
        for (size_t i = 0; i < count; i++) fprintf(file, "%s=%s\n", keys[i], values[i]);
        fclose(file);
    }
    if (stub && !strcmp(stub, "crash")) *(volatile int *)0 = 1;
    if (stub && !strcmp(stub, "hang")) for (;;) pause();
    if (stub && !strcmp(stub, "silent")) return NULL;
    if (stub && !strcmp(stub, "refuse")) {
        report("the option is not known");
        return NULL;
    }
    struct delegate *made = calloc(1, sizeof *made);
    made->prepare = prepare;
    return made;
}

void tflite_plugin_destroy_delegate(void *made) { free(made); }
