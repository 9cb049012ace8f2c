/* The functions of phases.c as a program, so that an emulator of another processor can run them.
 *
 * It reads calls until its input ends. A call is the number of a function, the numbers of its
 * arguments that are no arrays, and its arrays, each with its size in bytes; -1 stands for NULL. The
 * answer is all arrays as they are afterwards. foreign.py writes the calls.
 */
#include "phases.c"
#include <stdio.h>

enum { APPLY, APPLY_BACK, MULTIPLY, ADD_BIAS, ADD_ROWS, DESCEND, GATHER, TRAIN, MADE_BY };
enum { MOST = 256 };

static int64_t sizes[MOST];
static void *arrays[MOST];
static double n[MOST];

static int receive(void *to, size_t size) { return fread(to, 1, size, stdin) == size; }

static void train_by(void **p) {
    int l_max = n[0];
    void ***by_layer[12]; /* theta, transposed, bias, a, d, fx, mu, eps, buffer, phi, quiet, noise */
    for (int i = 0; i < 12; i++) by_layer[i] = (void ***)(p + 9 + i * l_max);
    Batches batches = {n[8], n[9], p[4], p[5], p[6], p[7], p[8], 0};
    if (p[9 + 11 * l_max + l_max - 1]) batches.noise = (const real *const *)by_layer[11];
    Trial t = {l_max, n[1], n[2], n[3], n[4], n[5], n[6], n[7], p[0], p[1], p[2]};
    t.theta = (real *const *)by_layer[0];
    t.transposed = (real *const *)by_layer[1];
    t.bias = *by_layer[2] ? (real *const *)by_layer[2] : 0;
    t.a = (real *const *)by_layer[3];
    t.d = (real *const *)by_layer[4];
    t.fx = (real *const *)by_layer[5];
    t.mu = (real *const *)by_layer[6];
    t.eps = (real *const *)by_layer[7];
    t.buffer = (real *const *)by_layer[8];
    t.phi = (int32_t *const *)by_layer[9];
    t.quiet = (int32_t *const *)by_layer[10];
    t.squares = p[3];
    train(&t, &batches);
}

static void call(int function, void **p) {
    switch (function) {
    case APPLY: apply(n[0], n[1], p[0], p[1]); break;
    case APPLY_BACK: apply_back(n[0], n[1], p[0], p[1], p[2]); break;
    case MULTIPLY: multiply(n[0], n[1], n[2], p[0], n[3], p[1], n[4], p[2]); break;
    case ADD_BIAS: add_bias(n[0], n[1], p[0], p[1]); break;
    case ADD_ROWS: add_rows(n[0], n[1], p[0], p[1]); break;
    case DESCEND: descend(n[0], n[1], p[0], p[1]); break;
    case GATHER: gather(n[0], n[1], n[2], p[0], p[1], p[2], p[3], p[4], p[5]); break;
    case TRAIN: train_by(p); break;
    case MADE_BY: strncpy(p[0], made_by(), sizes[0]); break;
    }
}

int main(void) {
    int32_t head[3]; /* the function, and how many numbers and arrays there are */
    while (receive(head, sizeof head)) {
        if (head[1] > MOST || head[2] > MOST || !receive(n, head[1] * sizeof *n)) return 1;
        for (int i = 0; i < head[2]; i++) {
            arrays[i] = 0;
            if (!receive(sizes + i, sizeof *sizes)) return 1;
            if (sizes[i] < 0) continue;
            arrays[i] = aligned_alloc(64, (sizes[i] + 64) / 64 * 64);
            if (!arrays[i] || !receive(arrays[i], sizes[i])) return 1;
        }
        call(head[0], arrays);
        for (int i = 0; i < head[2]; i++) {
            if (arrays[i]) fwrite(arrays[i], 1, sizes[i], stdout);
            free(arrays[i]);
        }
        fflush(stdout);
    }
    return 0;
}
