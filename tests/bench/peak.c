/*
 * The memory that a program takes at its peak: `peak FILE PROGRAM [ARGUMENT …]` executes it, writes the largest resident
 * set of it and its children in KiB into FILE, and answers with its exit code.
 *
 * A child counts the memory that it shared with its parent before it was executed (kernel/fork.c, fs/exec.c), so the
 * parent has to be smaller than anything that is measured: this program, static, has well below 1 MiB.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int count, char **arguments) {
    if (count < 3) {
        fprintf(stderr, "usage: peak FILE PROGRAM [ARGUMENT …]\n");
        return 2;
    }
    pid_t child = fork();
    if (child == 0) {
        execv(arguments[2], arguments + 2);
        perror(arguments[2]);
        _exit(127);
    }
    int status;
    struct rusage usage;
    if (child < 0 || wait4(child, &status, 0, &usage) < 0) {
        perror("peak");
        return 1;
    }
    FILE *file = fopen(arguments[1], "w");
    if (!file || fprintf(file, "%ld\n", usage.ru_maxrss) < 0 || fclose(file) != 0) {
        perror(arguments[1]);
        return 1;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
