/* The first answer of a new process that runs alexnet.yaml's library, step by step, and the most
 * memory that it held. run.sh builds and starts it. */
#include "alexnet.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

static double milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

int main(int count, char **arguments) {
    static float input[ALEXNET_INPUT_LEN], output[ALEXNET_OUTPUT_LEN];
    double start = milliseconds(), mapped, checked, first, second;
    int status, descriptor, flags = MAP_PRIVATE, whole;
    struct stat about;
    struct rusage usage;
    double allowed;
    char *file;
    void *workspace;

    if (count != 3 || (descriptor = open(arguments[1], O_RDONLY)) < 0
        || fstat(descriptor, &about) != 0)
        return 2;
    whole = strcmp(arguments[2], "whole") == 0;
#ifdef MAP_POPULATE
    flags |= MAP_POPULATE; /* All pages at once instead of one fault for each few. */
#endif
    file = mmap(NULL, (size_t)about.st_size, PROT_READ, flags, descriptor, 0);
    if (file == MAP_FAILED)
        return 2;
    mapped = milliseconds();
    status = whole ? alexnet_check_weights(file, (size_t)about.st_size)
                   : alexnet_check_weights_header(file, (size_t)about.st_size);
    checked = milliseconds();
    workspace = aligned_alloc(ALEXNET_ALIGNMENT, ALEXNET_WORKSPACE_BYTES);
    if (status == ALEXNET_OK)
        status = alexnet_run(input, output, workspace, file + ALEXNET_WEIGHTS_FILE_OFFSET);
    first = milliseconds();
    if (status == ALEXNET_OK)
        status = alexnet_run(input, output, workspace, file + ALEXNET_WEIGHTS_FILE_OFFSET);
    second = milliseconds();
    if (status != ALEXNET_OK) {
        fprintf(stderr, "status %d\n", status);
        return 1;
    }
    getrusage(RUSAGE_SELF, &usage);
    allowed = (ALEXNET_WEIGHTS_BYTES + ALEXNET_WORKSPACE_BYTES + 10e6) / 1e6;
    printf("check of %-10s map %6.1f ms, check %6.1f ms, first run %6.1f ms, in all %6.1f ms; "
           "second run %.1f ms; peak %.1f MB (weights, workspace and 10 MB: %.1f MB)\n",
           whole ? "the whole," : "the header,", mapped - start, checked - mapped, first - checked,
           first - start, second - first, usage.ru_maxrss * 1024.0 / 1e6, allowed);
    return usage.ru_maxrss * 1024.0 / 1e6 > allowed;
}
