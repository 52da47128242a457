/* A wall clock that jumps by a day, back and forth, each time it is read; other clocks are as they are. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    static volatile int calls;
    long failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec += ++calls % 2 ? 86400 : -86400;
    return failed;
}
