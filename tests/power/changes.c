/* What a process does to the files of one directory, written down in the order in which it happens.
 *
 * Preloaded (LD_PRELOAD) into a process, with two environment variables: CHANGES_OF, the directory, as an absolute path
 * without symbolic links, and CHANGES_TO, a file outside it, to which one record is appended per change and per sync.
 * `changes.py` reads them, `disk.py` says what a disk may hold of them after a power cut.
 *
 * What the order promises:
 *   - A change is recorded when the call that made it returns, and one thread's changes come in its order.
 *   - A sync is recorded after it has returned, with where the record ended when it began: it does not vouch for what
 *     came meanwhile.
 *   - So whatever is recorded after a sync has returned knows of all that it made durable.
 *
 * Only the calls that SQLite and Python make are seen. Whoever uses the record compares what it adds up to with the
 * files themselves: a difference is a call that is missing here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert(sizeof(off_t) == 8, "offsets must have 64 bits");

enum kind { CREATED = 1, WRITTEN, TRUNCATED, UNLINKED, RENAMED, SYNCED };

/* As changes.py unpacks it. `value` is an offset, a length, or where the record ended when a sync began. */
struct header {
  uint32_t kind;
  uint32_t length; /* bytes that follow */
  uint64_t inode;
  uint64_t value;
};

static char directory[PATH_MAX];
static size_t directory_length;
static struct stat directory_stat;
static int record = -1;
/* Held from before a change until it is written down, so that changes of one place stand in their order. */
static pthread_mutex_t changing = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) {
  void *found = dlsym(RTLD_NEXT, name);
  if (found == NULL) abort();
  return found;
}

static void give_up(const char *what) {
  int error = errno;
  dprintf(STDERR_FILENO, "changes.c: %s: %s\n", what, strerror(error));
  abort();
}

__attribute__((constructor)) static void begin(void) {
  const char *watched = getenv("CHANGES_OF"), *path = getenv("CHANGES_TO");
  if (watched == NULL || path == NULL) {
    errno = EINVAL;
    give_up("CHANGES_OF and CHANGES_TO must be set");
  }
  directory_length = strlen(watched);
  if (directory_length >= sizeof directory || stat(watched, &directory_stat) != 0) give_up(watched);
  memcpy(directory, watched, directory_length + 1);
  record = REAL(open)(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (record < 0) give_up(path);
}

static void append(enum kind kind, uint64_t inode, uint64_t value, const void *data, size_t length) {
  int error = errno;
  struct header header = {kind, (uint32_t)length, inode, value};
  struct iovec parts[] = {{&header, sizeof header}, {(void *)data, length}};
  if (writev(record, parts, 2) != (ssize_t)(sizeof header + length)) give_up("the record cannot be written");
  errno = error;
}

static uint64_t end_of_record(void) {
  struct stat found;
  if (fstat(record, &found) != 0) give_up("the record cannot be read");
  return (uint64_t)found.st_size;
}

/* The inode of what is open here, if it is the directory or a file in it; else 0. */
static uint64_t watched(int descriptor) {
  char link[64], path[PATH_MAX];
  struct stat found;
  int error = errno;
  uint64_t inode = 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length >= (ssize_t)directory_length && memcmp(path, directory, directory_length) == 0 &&
      ((size_t)length == directory_length || path[directory_length] == '/') && fstat(descriptor, &found) == 0)
    inode = found.st_ino;
  errno = error;
  return inode;
}

/* The name in the directory that a path stands for, or NULL if it leads elsewhere. */
static const char *name_of(const char *path) {
  char parent[PATH_MAX];
  struct stat found;
  int error = errno;
  const char *slash = strrchr(path, '/'), *name = slash == NULL ? path : slash + 1;
  size_t length = slash == NULL ? 0 : (size_t)(name - path);
  if (length >= sizeof parent) return NULL;
  memcpy(parent, path, length);
  strcpy(parent + length, ".");
  if (stat(parent, &found) != 0 || found.st_dev != directory_stat.st_dev || found.st_ino != directory_stat.st_ino)
    name = NULL;
  errno = error;
  return name;
}

/* Open files. */

typedef int (*opener)(int, const char *, int, ...);

static int open_watched(opener opened, int at, const char *path, int flags, mode_t mode) {
  const char *name = at == AT_FDCWD || path[0] == '/' ? name_of(path) : NULL;
  if (name == NULL || !(flags & (O_CREAT | O_TRUNC))) return opened(at, path, flags, mode);
  pthread_mutex_lock(&changing);
  int error = errno, existed = faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
  errno = error;
  int descriptor = opened(at, path, flags, mode);
  if (descriptor >= 0) {
    uint64_t inode = watched(descriptor);
    if (!existed) append(CREATED, inode, 0, name, strlen(name));
    else if (flags & O_TRUNC) append(TRUNCATED, inode, 0, NULL, 0);
  }
  pthread_mutex_unlock(&changing);
  return descriptor;
}

#define MODE_OF(flags) \
  mode_t mode = 0; \
  if ((flags) & (O_CREAT | O_TMPFILE)) { \
    va_list rest; \
    va_start(rest, flags); \
    mode = va_arg(rest, mode_t); \
    va_end(rest); \
  }

int open(const char *path, int flags, ...) {
  MODE_OF(flags)
  return open_watched(REAL(openat), AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
  MODE_OF(flags)
  return open_watched(REAL(openat64), AT_FDCWD, path, flags, mode);
}

int openat(int at, const char *path, int flags, ...) {
  MODE_OF(flags)
  return open_watched(REAL(openat), at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...) {
  MODE_OF(flags)
  return open_watched(REAL(openat64), at, path, flags, mode);
}

/* Change them. */

ssize_t write(int descriptor, const void *data, size_t length) {
  uint64_t inode = watched(descriptor);
  if (inode == 0) return REAL(write)(descriptor, data, length);
  pthread_mutex_lock(&changing);
  ssize_t written = REAL(write)(descriptor, data, length);
  /* Where it ended, which is right for a descriptor that appends, too. */
  if (written > 0) append(WRITTEN, inode, (uint64_t)(lseek(descriptor, 0, SEEK_CUR) - written), data, (size_t)written);
  pthread_mutex_unlock(&changing);
  return written;
}

ssize_t pwrite(int descriptor, const void *data, size_t length, off_t offset) {
  uint64_t inode = watched(descriptor);
  if (inode == 0) return REAL(pwrite)(descriptor, data, length, offset);
  pthread_mutex_lock(&changing);
  ssize_t written = REAL(pwrite)(descriptor, data, length, offset);
  if (written > 0) append(WRITTEN, inode, (uint64_t)offset, data, (size_t)written);
  pthread_mutex_unlock(&changing);
  return written;
}

ssize_t pwrite64(int descriptor, const void *data, size_t length, off64_t offset) {
  return pwrite(descriptor, data, length, offset);
}

int ftruncate(int descriptor, off_t length) {
  uint64_t inode = watched(descriptor);
  if (inode == 0) return REAL(ftruncate)(descriptor, length);
  pthread_mutex_lock(&changing);
  int result = REAL(ftruncate)(descriptor, length);
  if (result == 0) append(TRUNCATED, inode, (uint64_t)length, NULL, 0);
  pthread_mutex_unlock(&changing);
  return result;
}

int ftruncate64(int descriptor, off64_t length) { return ftruncate(descriptor, length); }

/* Change the directory. */

int unlink(const char *path) {
  const char *name = name_of(path);
  if (name == NULL) return REAL(unlink)(path);
  pthread_mutex_lock(&changing);
  int result = REAL(unlink)(path);
  if (result == 0) append(UNLINKED, 0, 0, name, strlen(name));
  pthread_mutex_unlock(&changing);
  return result;
}

int rename(const char *from, const char *to) {
  const char *name = name_of(from), *other = name_of(to);
  if (name == NULL || other == NULL) return REAL(rename)(from, to);
  char names[2 * NAME_MAX + 2];
  int length = snprintf(names, sizeof names, "%s/%s", name, other);
  pthread_mutex_lock(&changing);
  int result = REAL(rename)(from, to);
  if (result == 0) append(RENAMED, 0, 0, names, (size_t)length);
  pthread_mutex_unlock(&changing);
  return result;
}

/* Make durable. sync_file_range is none of these: it promises nothing about a power cut. */

static int sync_watched(int (*synced)(int), int descriptor) {
  uint64_t inode = watched(descriptor), end = inode == 0 ? 0 : end_of_record();
  int result = synced(descriptor);
  if (inode != 0 && result == 0) append(SYNCED, inode, end, NULL, 0);
  return result;
}

int fsync(int descriptor) { return sync_watched(REAL(fsync), descriptor); }

int fdatasync(int descriptor) { return sync_watched(REAL(fdatasync), descriptor); }
