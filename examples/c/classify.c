/* Classifies a picture with the net of specs/digits.yaml.
 *
 *   alexc build specs/digits.yaml --weights specs/digits/digits.safetensors -o build
 *   cc -O2 -Ibuild examples/c/classify.c build/libdigits.a -o build/classify
 *   build/classify build/digits.weights --self-test
 *   build/classify build/digits.weights specs/digits/seven.ppm [probabilities.f32]
 *
 * Pictures are read from PPM files, which hold red, green and blue of every pixel as they are. */
#include "digits.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Maps the file of weights: it is read as the net needs it, and shared by all who map it. */
static const char *map_weights(const char *path) {
    struct stat about;
    void *file;
    int status, descriptor = open(path, O_RDONLY);
    if (descriptor < 0 || fstat(descriptor, &about) != 0 || about.st_size == 0) {
        fprintf(stderr, "%s cannot be read\n", path);
        exit(1);
    }
    file = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    close(descriptor);
    if (file == MAP_FAILED) {
        perror(path);
        exit(1);
    }
    status = digits_check_weights(file, (size_t)about.st_size);
    if (status != DIGITS_OK) {
        fprintf(stderr, "%s: %s\n", path,
                status == DIGITS_NOT_WEIGHTS    ? "this is no file of weights"
                : status == DIGITS_OTHER_BUILD  ? "these weights belong to another net or build"
                : status == DIGITS_WRONG_LENGTH ? "this file is truncated"
                                                : "this file is damaged");
        exit(1);
    }
    return (const char *)file + DIGITS_WEIGHTS_FILE_OFFSET;
}

/* Reads a binary PPM file of 8 bits a channel. */
static unsigned char *read_picture(const char *path, int *height, int *width) {
    unsigned char *rgb = NULL;
    size_t bytes;
    int most, whole = 0;
    FILE *file = fopen(path, "rb");
    if (file && fscanf(file, "P6 %d %d %d", width, height, &most) == 3 && fgetc(file) != EOF
        && most == 255 && *width > 0 && *height > 0 && *width <= 1 << 14 && *height <= 1 << 14) {
        bytes = (size_t)*width * (size_t)*height * 3;
        rgb = malloc(bytes);
        whole = rgb && fread(rgb, 1, bytes, file) == bytes;
    }
    if (file)
        fclose(file);
    if (!whole) {
        fprintf(stderr, "%s: no PPM picture\n", path);
        exit(1);
    }
    return rgb;
}

int main(int count, char **arguments) {
    static float input[DIGITS_INPUT_LEN], output[DIGITS_OUTPUT_LEN];
    const char *weights;
    unsigned char *rgb;
    void *workspace;
    FILE *file;
    int status, height, width, class, best = 0;

    if (count < 3 || count > 4) {
        fprintf(stderr, "usage: %s WEIGHTS --self-test|PICTURE.ppm [OUTPUT.f32]\n", arguments[0]);
        return 2;
    }
    if (digits_check_cpu() != DIGITS_OK) {
        fprintf(stderr, "this processor is too old for the net\n");
        return 1;
    }
    weights = map_weights(arguments[1]);

    /* One workspace for each thread that runs the net, used again and again. */
    workspace = aligned_alloc(DIGITS_ALIGNMENT, DIGITS_WORKSPACE_BYTES);
    if (!workspace)
        return 1;
    if (strcmp(arguments[2], "--self-test") == 0) {
        status = digits_self_test(input, output, workspace, weights);
        puts(status == DIGITS_OK ? "all is well" : "the net does not compute what it should");
        free(workspace);
        return status != DIGITS_OK;
    }

    rgb = read_picture(arguments[2], &height, &width);
    status = digits_preprocess(rgb, height, width, input);
    free(rgb);
    if (status == DIGITS_OK)
        status = digits_run(input, output, workspace, weights);
    free(workspace);
    if (status != DIGITS_OK) {
        fprintf(stderr, "the net did not run: status %d\n", status);
        return 1;
    }

    for (class = 1; class < DIGITS_OUTPUT_LEN; class++)
        if (output[class] > output[best])
            best = class;
    printf("%d %s %.6f\n", best, digits_label(best), output[best]);
    if (count == 4) {
        file = fopen(arguments[3], "wb");
        if (!file || fwrite(output, sizeof(float), DIGITS_OUTPUT_LEN, file) != DIGITS_OUTPUT_LEN
            || fclose(file) != 0) {
            perror(arguments[3]);
            return 1;
        }
    }
    return 0;
}
