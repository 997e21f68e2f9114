/* A library that is preloaded into a process and makes its file operations fail.
 *
 * Only operations on files below one directory are touched, and only while the test
 * says so: the test and the process share a small control file, mapped by both. Every
 * operation that is eligible counts; one in `one_in` of them fails in one of the ways
 * that `kinds` allows. Nothing here knows what the files mean.
 *
 * FAULTFS_CONTROL  path of the control file (see struct control)
 * FAULTFS_BELOW    the directory whose files are to fail
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { KIND_ENOSPC = 1, KIND_EIO_WRITE = 2, KIND_EIO_READ = 4, KIND_EMFILE = 8, KIND_SHORT_WRITE = 16 };

/* The layout is shared with the test; every field is 32 bits, in this order. */
struct control {
  _Atomic uint32_t kinds;    /* which faults may happen; 0: none */
  _Atomic uint32_t one_in;   /* how often: one operation in this many */
  _Atomic uint32_t injected; /* how many happened */
  _Atomic uint32_t eligible; /* how many operations could have failed */
};

#define FD_MAX 65536
static struct control *control;
static char below[PATH_MAX];
static size_t below_len;
/* Which descriptors belong to files below the directory. */
static _Atomic unsigned char watched[FD_MAX];
static _Atomic uint64_t random_state;

#define REAL(name, type)             \
  static __typeof__(type) real;      \
  if (!real) real = (__typeof__(type))dlsym(RTLD_NEXT, #name)
#define FAIL(error) return errno = (error), -1

__attribute__((constructor)) static void begin(void) {
  const char *control_path = getenv("FAULTFS_CONTROL");
  const char *directory = getenv("FAULTFS_BELOW");
  if (!control_path || !directory || strlen(directory) >= sizeof below) return;
  REAL(open, int (*)(const char *, int, ...));
  int fd = real(control_path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void *map = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (map == MAP_FAILED) return;
  strcpy(below, directory);
  below_len = strlen(below);
  atomic_store(&random_state, 0x9e3779b97f4a7c15u ^ (uint64_t)getpid());
  control = map;
}

/* A step of xorshift; races only make it more random. */
static uint32_t random_below(uint32_t bound) {
  uint64_t x = atomic_load(&random_state);
  x ^= x << 13, x ^= x >> 7, x ^= x << 17;
  atomic_store(&random_state, x);
  return (uint32_t)((x >> 32) % bound);
}

/* Whether this operation, which could fail in the way `kind`, shall. */
static int shall_fail(enum kind kind) {
  if (!control || !(atomic_load(&control->kinds) & kind)) return 0;
  atomic_fetch_add(&control->eligible, 1);
  uint32_t one_in = atomic_load(&control->one_in);
  if (one_in == 0 || random_below(one_in) != 0) return 0;
  atomic_fetch_add(&control->injected, 1);
  return 1;
}

static int path_is_below(const char *path) {
  return control && path && strncmp(path, below, below_len) == 0;
}
static int fd_is_below(int fd) { return control && fd >= 0 && fd < FD_MAX && atomic_load(&watched[fd]); }

static int fail_open(const char *path, int flags) {
  if (!path_is_below(path)) return 0;
  if (shall_fail(KIND_EMFILE)) return EMFILE;
  if ((flags & O_CREAT) && shall_fail(KIND_ENOSPC)) return ENOSPC;
  if (!(flags & O_CREAT) && shall_fail(KIND_EIO_READ)) return EIO;
  return 0;
}
static int opened(int fd, const char *path) {
  if (fd >= 0 && fd < FD_MAX) atomic_store(&watched[fd], (unsigned char)path_is_below(path));
  return fd;
}

#define DEFINE_OPEN(name)                        \
  int name(const char *path, int flags, ...) {   \
    REAL(name, int (*)(const char *, int, ...)); \
    va_list rest;                                \
    va_start(rest, flags);                       \
    mode_t mode = va_arg(rest, mode_t);          \
    va_end(rest);                                \
    int error = fail_open(path, flags);          \
    if (error) FAIL(error);                      \
    return opened(real(path, flags, mode), path); \
  }
DEFINE_OPEN(open)
DEFINE_OPEN(open64)

#define DEFINE_OPENAT(name)                           \
  int name(int dir, const char *path, int flags, ...) { \
    REAL(name, int (*)(int, const char *, int, ...)); \
    va_list rest;                                     \
    va_start(rest, flags);                            \
    mode_t mode = va_arg(rest, mode_t);               \
    va_end(rest);                                     \
    int error = fail_open(path, flags);               \
    if (error) FAIL(error);                           \
    return opened(real(dir, path, flags, mode), path); \
  }
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)

int close(int fd) {
  REAL(close, int (*)(int));
  if (fd >= 0 && fd < FD_MAX) atomic_store(&watched[fd], 0);
  return real(fd);
}

/* How many of `len` bytes a write to `fd` may take; *error is set if it is to fail. */
static size_t write_budget(int fd, size_t len, int *error) {
  *error = 0;
  if (!fd_is_below(fd)) return len;
  if (shall_fail(KIND_ENOSPC)) return *error = ENOSPC, 0;
  if (shall_fail(KIND_EIO_WRITE)) return *error = EIO, 0;
  if (len > 1 && shall_fail(KIND_SHORT_WRITE)) return len / 2;
  return len;
}

ssize_t write(int fd, const void *bytes, size_t len) {
  REAL(write, ssize_t (*)(int, const void *, size_t));
  int error;
  size_t budget = write_budget(fd, len, &error);
  if (error) FAIL(error);
  return real(fd, bytes, budget);
}

#define DEFINE_PWRITE(name, offset_type)                                \
  ssize_t name(int fd, const void *bytes, size_t len, offset_type at) { \
    REAL(name, ssize_t (*)(int, const void *, size_t, offset_type));    \
    int error;                                                          \
    size_t budget = write_budget(fd, len, &error);                      \
    if (error) FAIL(error);                                             \
    return real(fd, bytes, budget, at);                                 \
  }
DEFINE_PWRITE(pwrite, off_t)
DEFINE_PWRITE(pwrite64, off64_t)

ssize_t writev(int fd, const struct iovec *parts, int count) {
  REAL(writev, ssize_t (*)(int, const struct iovec *, int));
  int error;
  write_budget(fd, 1, &error);
  if (error) FAIL(error);
  return real(fd, parts, count);
}

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t len, unsigned flags) {
  REAL(copy_file_range, ssize_t (*)(int, off64_t *, int, off64_t *, size_t, unsigned));
  int error;
  size_t budget = write_budget(to, len, &error);
  if (error) FAIL(error);
  return real(from, from_at, to, to_at, budget, flags);
}

static int read_fails(int fd) { return fd_is_below(fd) && shall_fail(KIND_EIO_READ); }

ssize_t read(int fd, void *bytes, size_t len) {
  REAL(read, ssize_t (*)(int, void *, size_t));
  if (read_fails(fd)) FAIL(EIO);
  return real(fd, bytes, len);
}

#define DEFINE_PREAD(name, offset_type)                           \
  ssize_t name(int fd, void *bytes, size_t len, offset_type at) { \
    REAL(name, ssize_t (*)(int, void *, size_t, offset_type));    \
    if (read_fails(fd)) FAIL(EIO);                                \
    return real(fd, bytes, len, at);                              \
  }
DEFINE_PREAD(pread, off_t)
DEFINE_PREAD(pread64, off64_t)

#define DEFINE_SYNC(name)                                         \
  int name(int fd) {                                              \
    REAL(name, int (*)(int));                                     \
    if (fd_is_below(fd) && shall_fail(KIND_EIO_WRITE)) FAIL(EIO); \
    return real(fd);                                              \
  }
DEFINE_SYNC(fsync)
DEFINE_SYNC(fdatasync)
DEFINE_SYNC(syncfs)

#define DEFINE_TWO_PATHS(name)                                      \
  int name(const char *from, const char *to) {                      \
    REAL(name, int (*)(const char *, const char *));                \
    if (path_is_below(to) && shall_fail(KIND_ENOSPC)) FAIL(ENOSPC); \
    return real(from, to);                                          \
  }
DEFINE_TWO_PATHS(rename)
DEFINE_TWO_PATHS(link)

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
  REAL(linkat, int (*)(int, const char *, int, const char *, int));
  if (path_is_below(to) && shall_fail(KIND_ENOSPC)) FAIL(ENOSPC);
  return real(from_dir, from, to_dir, to, flags);
}

int mkdir(const char *path, mode_t mode) {
  REAL(mkdir, int (*)(const char *, mode_t));
  if (path_is_below(path) && shall_fail(KIND_ENOSPC)) FAIL(ENOSPC);
  return real(path, mode);
}
