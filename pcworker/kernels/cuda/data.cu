/* What lies around training on a GPU: minibatches, noise and distances, in the numbers that the
 * page of pcworker/kernels/fixed defines. */
#include "phases.c"

/* ---- Minibatches ---- */

typedef struct {
    int32_t batch, pixels, classes;
    const unsigned char *images; /* [samples, pixels] */
    const int64_t *labels;       /* [samples] */
    const int64_t *order;        /* [updates, batch]: which samples */
    const real *values;          /* [256]: what a byte of an image stands for */
    const real *codes;           /* the targets of a wrong class and of the right one */
    const int32_t *sample_rows;  /* as in Batches */
    Entry *samples, *entries;    /* `samples` and `pixels` of Batches */
    int32_t *pixel_rows;
    real *targets;
} Gathering;

/* The bytes of sample i of the block's update. */
INLINE const unsigned char *image(const Gathering *g, int i) {
    return g->images + g->order[(int64_t)blockIdx.x * g->batch + i] * g->pixels;
}

INLINE void list_by_sample(const Gathering *g) {
    for (int i = threadIdx.x; i < g->batch; i += blockDim.x) {
        int64_t row = (int64_t)blockIdx.x * g->batch + i;
        const unsigned char *bytes = image(g, i);
        Entry *at = g->samples + g->sample_rows[row];
        for (int k = 0; k < g->pixels; k++) {
            Entry entry = {k, g->values[bytes[k]]};
            if (bytes[k]) *at++ = entry;
        }
        for (int j = 0; j < g->classes; j++)
            g->targets[row * g->classes + j] = g->codes[j == g->labels[g->order[row]]];
    }
}

/* How many samples have a pixel that is not 0, over the pixels from `first` to `stop` - 1. */
INLINE int count_pixels(const Gathering *g, int first, int stop) {
    int count = 0;
    for (int i = 0; i < g->batch; i++)
        for (int k = first; k < stop; k++) count += image(g, i)[k] != 0;
    return count;
}

/* Each thread lists some neighbouring pixels, after those of the threads before it. */
INLINE void list_by_pixel(const Gathering *g, int *counts) {
    int each = (g->pixels + blockDim.x - 1) / blockDim.x, first = threadIdx.x * each;
    int stop = first + each < g->pixels ? first + each : g->pixels;
    counts[threadIdx.x] = count_pixels(g, first, stop);
    __syncthreads();
    int at = g->sample_rows[(int64_t)blockIdx.x * g->batch];
    for (int thread = 0; thread < (int)threadIdx.x; thread++) at += counts[thread];
    for (int k = first; k < stop; k++) {
        g->pixel_rows[(int64_t)blockIdx.x * g->pixels + k] = at;
        for (int i = 0; i < g->batch; i++) {
            Entry entry = {i, g->values[image(g, i)[k]]};
            if (image(g, i)[k]) g->entries[at++] = entry;
        }
    }
    if (blockIdx.x == gridDim.x - 1 && stop == g->pixels && first < stop)
        g->pixel_rows[(int64_t)gridDim.x * g->pixels] = at;
}

enum { GATHERING_THREADS = 128 };

/* A block lists the minibatch of an update. */
extern "C" __global__ void gather(const Gathering *gathering) {
    __shared__ int counts[GATHERING_THREADS];
    list_by_sample(gathering);
    list_by_pixel(gathering, counts);
}

/* ---- Noise ---- */

INLINE unsigned long long random_number(unsigned long long key, long long place) {
    unsigned long long z = key + (unsigned long long)(place + 1) * 0x9e3779b97f4a7c15ULL;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

INLINE double radius(unsigned long long z) {
    double v = (double)((z >> 11) + 1) * 0x1p-53;
    long long bits = __double_as_longlong(v);
    int e = (int)(bits >> 52) - 1022; /* v is normal and positive: it is m 2^e, 1/2 <= m < 1 */
    double m = __longlong_as_double((bits & 0xfffffffffffffLL) | (1022LL << 52));
    if (m < 0x1.6a09e667f3bcdp-1) {
        m = m * 2;
        e = e - 1;
    }
    double k = (m - 1) / (m + 1), y = k * k, p = 1.0 / 23;
    for (int n = 21; n > 0; n -= 2) p = p * y + 1.0 / n;
    return __dsqrt_rn(-2 * (e * 0x1.62e42fefa39efp-1 + (k + k) * p));
}

/* The coefficients are those of cos and, from [1][0] on, of sin, the highest power's first. */
INLINE double horner(double x, const double *coefficients) {
    double sum = coefficients[0];
    for (int i = 1; i < 12; i++) sum = sum * x + coefficients[i];
    return sum;
}

/* Normals 2i and 2i + 1 of a stream, for i = first, first + 1, ...
 *
 * to  [2 count]
 */
extern "C" __global__ void normals(int64_t key, int64_t first, int64_t count,
                                   const double *coefficients, real *to) {
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    double r = radius(random_number(key, 2 * (first + i)));
    unsigned long long w = random_number(key, 2 * (first + i) + 1);
    double o = (double)((w >> 9) & 0x1fffffffffffffULL) * 0x1p-53 * 0x1.921fb54442d18p+0;
    double c = horner(o * o, coefficients), s = horner(o * o, coefficients + 12) * o;
    for (int turn = 0; turn < (int)(w >> 62); turn++) {
        double turned = 0 - s;
        s = c;
        c = turned;
    }
    to[2 * i] = (real)(r * c);
    to[2 * i + 1] = (real)(r * s);
}

/* ---- Distances ---- */

typedef struct {
    int32_t n, m, row, column; /* the weight [j][k] lies at j * row + k * column */
    const real *ours, *theirs, *our_bias, *their_bias; /* the last two are NULL without a bias */
    double *sums; /* the sum of squares, the sum of absolute values, and the largest of them */
} Pair;

typedef struct { double squares, total, largest; } Sums;

INLINE void add_difference(Sums *sums, double difference) {
    double value = difference < 0 ? 0 - difference : difference;
    sums->squares = sums->squares + value * value;
    sums->total = sums->total + value;
    if (value > sums->largest) sums->largest = value;
}

/* A block has a layer of a pair of networks. Its threads fetch, and the first one adds in order. */
extern "C" __global__ void distances(const Pair *pairs) {
    __shared__ double fetched[GATHERING_THREADS];
    const Pair *p = pairs + blockIdx.x;
    int size = p->n * p->m, all = size + (p->our_bias ? p->n : 0);
    Sums sums = {0, 0, 0};
    for (int start = 0; start < all; start += blockDim.x) {
        int i = start + threadIdx.x, at = i / p->m * p->row + i % p->m * p->column;
        if (i < size) fetched[threadIdx.x] = (double)p->ours[at] - (double)p->theirs[at];
        else if (i < all)
            fetched[threadIdx.x] = (double)p->our_bias[i - size] - (double)p->their_bias[i - size];
        __syncthreads();
        for (int k = 0; threadIdx.x == 0 && k < (int)blockDim.x && start + k < all; k++)
            add_difference(&sums, fetched[k]);
        __syncthreads();
    }
    if (threadIdx.x > 0) return;
    p->sums[0] = sums.squares;
    p->sums[1] = sums.total;
    p->sums[2] = sums.largest;
}
