/* Preloaded, makes a local disk answer like a busy parallel file system: every open and read below SLOW_FILES waits
   SLOW_MS milliseconds. How many there were is written to the file SLOW_COUNTS at the end.
   gcc -shared -fPIC -O2 -o slow_files.so slow_files.c -ldl */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MOST 65536
static atomic_char slow[MOST];
static atomic_ulong small[MOST];
static atomic_long opens, reads;

static void delay(void) {
    const char *said = getenv("SLOW_MS");
    double ms = said ? atof(said) : 0;
    struct timespec time = {(time_t)(ms / 1000), (long)((ms - 1000 * (long)(ms / 1000)) * 1e6)};
    nanosleep(&time, NULL);
}

static int mine(const char *path) {
    const char *folder = getenv("SLOW_FILES");
    return folder && path && strncmp(path, folder, strlen(folder)) == 0;
}

static int opened(int handle, const char *path) {
    if (handle >= 0 && handle < MOST) {
        slow[handle] = mine(path);
        small[handle] = 0;
        if (slow[handle]) { atomic_fetch_add(&opens, 1); delay(); }
    }
    return handle;
}

static void reading(int handle) {
    if (handle >= 0 && handle < MOST && slow[handle]) { atomic_fetch_add(&reads, 1); delay(); }
}

#define NEXT(name) static __typeof__(&name) next; if (!next) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define MODE va_list rest; va_start(rest, flags); mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0; va_end(rest)

int open(const char *path, int flags, ...) {
    MODE; NEXT(open); return opened(next(path, flags, mode), path);
}
int open64(const char *path, int flags, ...) {
    MODE; NEXT(open64); return opened(next(path, flags, mode), path);
}
int openat(int folder, const char *path, int flags, ...) {
    MODE; NEXT(openat); return opened(next(folder, path, flags, mode), path);
}
int openat64(int folder, const char *path, int flags, ...) {
    MODE; NEXT(openat64); return opened(next(folder, path, flags, mode), path);
}
FILE *fopen64(const char *path, const char *mode) {
    NEXT(fopen64);
    FILE *file = next(path, mode);
    if (file) opened(fileno(file), path);
    return file;
}
FILE *fopen(const char *path, const char *mode) {
    NEXT(fopen);
    FILE *file = next(path, mode);
    if (file) opened(fileno(file), path);
    return file;
}
ssize_t read(int handle, void *to, size_t count) {
    NEXT(read); reading(handle); return next(handle, to, count);
}
ssize_t pread(int handle, void *to, size_t count, off_t from) {
    NEXT(pread); reading(handle); return next(handle, to, count, from);
}
ssize_t pread64(int handle, void *to, size_t count, off64_t from) {
    NEXT(pread64); reading(handle); return next(handle, to, count, from);
}
ssize_t preadv(int handle, const struct iovec *to, int count, off_t from) {
    NEXT(preadv); reading(handle); return next(handle, to, count, from);
}
ssize_t preadv64(int handle, const struct iovec *to, int count, off64_t from) {
    NEXT(preadv64); reading(handle); return next(handle, to, count, from);
}
ssize_t preadv2(int handle, const struct iovec *to, int count, off_t from, int flags) {
    NEXT(preadv2); reading(handle); return next(handle, to, count, from, flags);
}
ssize_t preadv64v2(int handle, const struct iovec *to, int count, off64_t from, int flags) {
    NEXT(preadv64v2); reading(handle); return next(handle, to, count, from, flags);
}
/* The C library reads 4096 bytes ahead for those who ask for little, and only these reads reach the disk. */
size_t fread(void *to, size_t size, size_t count, FILE *file) {
    NEXT(fread);
    int handle = fileno(file);
    if (handle >= 0 && handle < MOST && slow[handle]) {
        size_t bytes = size * count, before = atomic_fetch_add(&small[handle], bytes);
        if (bytes >= 4096 || before == 0 || before / 4096 != (before + bytes) / 4096) reading(handle);
    }
    return next(to, size, count, file);
}
int close(int handle) {
    NEXT(close);
    if (handle >= 0 && handle < MOST) slow[handle] = 0;
    return next(handle);
}

__attribute__((destructor)) static void tell(void) {
    const char *path = getenv("SLOW_COUNTS");
    NEXT(fopen);
    FILE *file = path ? next(path, "w") : NULL;
    if (file) { fprintf(file, "%ld %ld\n", (long)opens, (long)reads); fclose(file); }
}
