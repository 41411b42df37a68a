/* Run as the command of a container: tells what it can see and do, a line `what TAB answer` each. Whatever is called here is
   called with arguments that do nothing where the call is let through. `ns=VALUE` arguments are the host's own namespaces. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *what, const char *answer) { printf("%s\t%s\n", what, answer); }

static void namespaces(int argc, char **argv) {
  const char *kinds[] = {"user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"};
  for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    char path[64], here[64] = "", what[64];
    snprintf(path, sizeof path, "/proc/self/ns/%s", kinds[i]);
    ssize_t n = readlink(path, here, sizeof here - 1);
    const char *answer = n < 0 ? "unknown" : "own";
    for (int a = 1; a < argc; a++)
      if (n > 0 && !strcmp(argv[a], here)) answer = "the host's";
    snprintf(what, sizeof what, "namespace %s", kinds[i]);
    say(what, answer);
  }
}

static void ids(void) {
  FILE *f = fopen("/proc/self/uid_map", "r");
  unsigned long inside, outside, count;
  if (!f || fscanf(f, "%lu %lu %lu", &inside, &outside, &count) != 3) return say("root outside is", "unknown");
  say("root outside is", outside == 0 ? "root" : "nobody of the host");
}

static const char *caps[] = {
  "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap", "linux_immutable",
  "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner", "sys_module", "sys_rawio", "sys_chroot",
  "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time", "sys_tty_config", "mknod", "lease",
  "audit_write", "audit_control", "setfcap", "mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read",
  "perfmon", "bpf", "checkpoint_restore"};

static void status(void) {
  FILE *f = fopen("/proc/self/status", "r");
  char line[256], text[64];
  unsigned long long set;
  while (f && fgets(line, sizeof line, f)) {
    if (sscanf(line, "CapBnd: %llx", &set) == 1) {
      char all[1024] = "";
      int count = 0;
      for (unsigned i = 0; i < sizeof caps / sizeof *caps; i++)
        if (set >> i & 1) { strcat(strcat(all, count++ ? " " : ""), caps[i]); }
      snprintf(text, sizeof text, "%d", count);
      say("capabilities, how many", text);
      say("capabilities", count ? all : "none");
    }
    if (sscanf(line, "CapInh: %llx", &set) == 1) say("capabilities that exec hands on", set ? "some" : "none");
    if (!strncmp(line, "NoNewPrivs:", 11)) say("no new privileges", strchr(line, '1') ? "yes" : "no");
    if (!strncmp(line, "Seccomp:", 8)) say("system call filter", strchr(line, '2') ? "yes" : "no");
  }
}

/* What a call that would do nothing, or fail for its arguments, is answered. */
static void answered(const char *what, long result) {
  char key[64];
  int e = errno;
  snprintf(key, sizeof key, "call %s", what);
  say(key, result >= 0 ? "allowed" : e == ENOSYS ? "not there" : e == EPERM || e == EACCES ? "refused" : "allowed");
}

static void in_child(const char *what, int flags) {
  int p[2], told[2] = {-1, 0};
  if (pipe(p)) return;
  if (!fork()) {
    told[0] = (int)syscall(SYS_unshare, flags);
    told[1] = errno;
    if (write(p[1], told, sizeof told) < 0) _exit(1);
    _exit(0);
  }
  if (read(p[0], told, sizeof told) != sizeof told) told[1] = EPERM;
  wait(NULL);
  close(p[0]); close(p[1]);
  errno = told[1];
  answered(what, told[0]);
}

static void calls(void) {
  char big[256];
  memset(big, 0xff, sizeof big);
  answered("mount", syscall(SYS_mount, "none", "/no/such/place", "tmpfs", 0, 0));
  answered("pivot_root", syscall(SYS_pivot_root, "/no/such/place", "/no/such/place"));
  answered("open_tree", syscall(SYS_open_tree, -100, "/", 1 | O_CLOEXEC)); /* OPEN_TREE_CLONE */
  answered("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
  in_child("unshare, a new user namespace", CLONE_NEWUSER);
  in_child("unshare, a new mount namespace", CLONE_NEWNS);
  answered("setns", syscall(SYS_setns, open("/proc/self/ns/uts", O_RDONLY), 0));
  answered("keyctl", syscall(SYS_keyctl, 0, -3, 0, 0, 0)); /* KEYCTL_GET_KEYRING_ID of the session */
  answered("add_key", syscall(SYS_add_key, "user", "probe", "x", 1, -2));
  answered("bpf", syscall(SYS_bpf, 0, big, 0));
  answered("perf_event_open", syscall(SYS_perf_event_open, big, 0, -1, -1, 0));
  answered("userfaultfd", syscall(SYS_userfaultfd, 0));
  answered("io_uring_setup", syscall(SYS_io_uring_setup, 0, big));
  answered("init_module", syscall(SYS_init_module, big, 0, ""));
  answered("kexec_load", syscall(SYS_kexec_load, 0, 0, 0, 0xffffL));
  answered("open_by_handle_at", syscall(SYS_open_by_handle_at, -1, big, 0));
  answered("syslog, reading the kernel's", syscall(SYS_syslog, 10, 0, 0));
  answered("reboot", syscall(SYS_reboot, 0, 0, 0, 0));
  answered("swapon", syscall(SYS_swapon, "/no/such/file", 0));
  answered("iopl", syscall(SYS_iopl, 0));
  answered("socket, AF_VSOCK", syscall(SYS_socket, 40, 1, 0));
  answered("ioctl, keys into a terminal", syscall(SYS_ioctl, -1, 0x5412, "x"));
  answered("ptrace", syscall(SYS_ptrace, 0xffff, 0, 0, 0));
  answered("personality, no randomisation", syscall(SYS_personality, 0x0040000));
}

static void path(const char *path) {
  char key[128], buffer[16];
  const char *answer = "not there";
  struct stat st;
  snprintf(key, sizeof key, "path %s", path);
  if (!stat(path, &st)) {
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    int empty = 1;
    if (S_ISDIR(st.st_mode)) {
      DIR *dir = opendir(path);
      for (struct dirent *e; dir && (e = readdir(dir));) empty &= e->d_name[0] == '.';
      if (dir) closedir(dir);
      struct statvfs fs;
      int ro = !statvfs(path, &fs) && fs.f_flag & ST_RDONLY;
      answer = empty ? "empty" : ro ? "read-only" : access(path, W_OK) ? "read" : "written";
    } else {
      empty = fd < 0 || read(fd, buffer, 1) <= 0;
      int w = open(path, O_WRONLY | O_NONBLOCK);
      answer = S_ISCHR(st.st_mode) ? "covered" : w >= 0 ? "written" : empty ? "cannot be read" : "read";
      if (w >= 0) close(w);
    }
    if (fd >= 0) close(fd);
  }
  say(key, answer);
}

static void devices(void) {
  char all[1024] = "", *names[128];
  int n = 0;
  DIR *dir = opendir("/dev");
  for (struct dirent *e; dir && (e = readdir(dir));)
    if ((e->d_type == DT_CHR || e->d_type == DT_BLK || e->d_type == DT_REG) && n < 128) names[n++] = strdup(e->d_name);
  for (int i = 0; i < n; i++)
    for (int k = i + 1; k < n; k++)
      if (strcmp(names[i], names[k]) > 0) { char *t = names[i]; names[i] = names[k]; names[k] = t; }
  for (int i = 0; i < n; i++) strcat(strcat(all, i ? " " : ""), names[i]);
  say("devices", all);
  const char *answer = "refused";
  if (!mknod("/tmp/probe", S_IFCHR | 0600, makedev(1, 5))) answer = open("/tmp/probe", O_RDONLY) >= 0 ? "made and opened" : "made, and does not open";
  unlink("/tmp/probe");
  say("a device node in /tmp", answer);
}

static void cgroups(void) {
  FILE *f = fopen("/proc/self/cgroup", "r");
  char line[512];
  int host = 0;
  while (f && fgets(line, sizeof line, f)) {
    char *where = strrchr(line, ':');
    host |= where && strcmp(where, ":/\n");
  }
  say("its own cgroup is", host ? "named as on the host" : "/");
  int agent = 0;
  DIR *dir = opendir("/sys/fs/cgroup");
  for (struct dirent *e; dir && (e = readdir(dir));) {
    char file[512];
    snprintf(file, sizeof file, "/sys/fs/cgroup/%s/release_agent", e->d_name);
    agent |= !access(file, W_OK) && open(file, O_WRONLY) >= 0;
  }
  say("a cgroup's release_agent", agent ? "written" : "out of reach");
}

static void descriptors(void) {
  char text[16];
  int n = 0;
  DIR *dir = opendir("/proc/self/fd");
  for (struct dirent *e; dir && (e = readdir(dir));)
    if (e->d_name[0] != '.' && atoi(e->d_name) > 2 && atoi(e->d_name) != dirfd(dir)) n++;
  snprintf(text, sizeof text, "%d", n);
  say("descriptors beside the standard ones", text);
}

/* Under limits of 20 processes and 64 MiB for all of them together: how many there can be, and whether 128 MiB can be used. */
static int limits(void) {
  char text[64];
  int children = 0, status = 0;
  pid_t pids[100];
  while (children < 100 && (pids[children] = fork()) >= 0) {
    if (!pids[children]) {
      pause();
      _exit(0);
    }
    children++;
  }
  for (int i = 0; i < children; i++) kill(pids[i], SIGKILL);
  for (int i = 0; i < children; i++) waitpid(pids[i], &status, 0);
  snprintf(text, sizeof text, "%d", children + 1);
  say("limits, asked for 20 processes: there are", children < 100 ? text : "100 and more");
  pid_t eater = fork();
  if (!eater) {
    volatile char *memory = malloc(128 << 20);
    for (long i = 0; memory && i < 128 << 20; i += 4096) memory[i] = 1;
    _exit(memory ? 0 : 1);
  }
  waitpid(eater, &status, 0);
  say("limits, asked for 64 MiB: who uses 128 MiB is", WIFEXITED(status) && !WEXITSTATUS(status) ? "let" : "ended");
  return 0;
}

int main(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "limits")) return limits();
  descriptors();
  namespaces(argc, argv);
  ids();
  status();
  const char *paths[] = {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/interrupts", "/proc/sysrq-trigger",
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/net/ipv4/ip_forward", "/proc/bus", "/proc/acpi", "/sys/firmware",
    "/sys/kernel", "/sys/kernel/debug", "/sys/fs/cgroup", "/sys/devices/virtual/powercap", "/dev/kmsg", "/dev/mem"};
  for (unsigned i = 0; i < sizeof paths / sizeof *paths; i++) path(paths[i]);
  devices();
  cgroups();
  calls();
  return 0;
}
