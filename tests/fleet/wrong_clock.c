/* A process whose clock is wrong: by WRONG_BY seconds, which may be negative. Clocks that never go back stay right. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static time_t wrong_by(void) {
    const char *seconds = getenv("WRONG_BY");
    return seconds == NULL ? 0 : (time_t)atoll(seconds);
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    static int (*right)(clockid_t, struct timespec *);
    if (right == NULL) right = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = right(clock, at);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) at->tv_sec += wrong_by();
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    static int (*right)(struct timeval *restrict, void *restrict);
    if (right == NULL) right = dlsym(RTLD_NEXT, "gettimeofday");
    int failed = right(at, zone);
    if (!failed) at->tv_sec += wrong_by();
    return failed;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at != NULL) *at = now.tv_sec;
    return now.tv_sec;
}
