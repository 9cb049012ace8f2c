/* Trains trials on a GPU by the operations of phases.c, with its bits.
 *
 * A block trains a trial. During inference samples do not meet, so a warp has SAMPLES samples of
 * the minibatch, a lane has a unit of each layer, and no warp waits for another. The activities of
 * its samples lie in registers, the small weights of the trial in shared memory. All warps meet
 * only where weights change. For wider layers there is `train_phases`, which is slower.
 *
 * The file is compiled for one network: WIDTHS are its widths from the output to the input, BATCH
 * is the size of the largest minibatch, F is its nonlinearity, and TEXTBOOK and BIASED are 0 or 1.
 */
#include "phases.c"

/* A launch makes some of the updates of an epoch. It looks for weights that are not finite where
 * training on a CPU does: after CHUNK updates more, from the first on, and after the last. */
typedef struct {
    const Trial *trials;     /* by block */
    const Batches *batches;  /* by seed */
    const int32_t *seeds;    /* by block: which of `batches` */
    int32_t *nonfinite;      /* by block: after which update of the epoch, or 0 */
    int32_t *right;          /* by block: how many predictions were right, by COUNT */
    int32_t done, looks, last, chunk; /* updates of the epoch before; whether to look at all */
} Launch;

INLINE int looks_after(const Launch *launch, int made, int updates) {
    int done = launch->done + made;
    return launch->looks && (done % launch->chunk == 1 || (launch->last && made == updates));
}

INLINE int is_finite(real value) { return value - value == 0; }

/* Whether the first of the largest of n outputs is at the target's unit. NaN is not right. */
INLINE int is_right(const real *output, const real *target, int n) {
    int label = 0, right = 1;
    for (int j = 1; j < n; j++)
        if (target[j] > target[label]) label = j;
    for (int j = 0; j < n; j++)
        right &= j < label ? output[label] > output[j] : output[label] >= output[j];
    return right;
}

/* ---- Any network: a block goes through the phases ---- */

PHASE void count_right(Worker w, const Trial *t, const Batches *b, int update, int32_t *right) {
    int n = t->width[0], N = t->stride[0];
    for (int i = w.first; i < b->batch; i += w.step)
        if (is_right(t->mu[0] + i * N, b->targets + ((int64_t)update * b->batch + i) * n, n))
            atomicAdd(right, 1);
}

PHASE void look(Worker w, const Trial *t, int *found) {
    for (int l = 0; l < t->l_max; l++) {
        int size = l == t->l_max - 1 ? t->width[l + 1] * t->stride[l] : t->width[l] * t->stride[l + 1];
        for (int i = w.first; i < size; i += w.step)
            if (!is_finite(t->theta[l][i])) atomicOr(found, 1);
        if (t->bias)
            for (int j = w.first; j < t->width[l]; j += w.step)
                if (!is_finite(t->bias[l][j])) atomicOr(found, 1);
    }
}

extern "C" __global__ void train_phases(const Launch *launch) {
    __shared__ int found;
    const Trial *t = launch->trials + blockIdx.x;
    const Batches *b = launch->batches + launch->seeds[blockIdx.x];
    if (launch->nonfinite[blockIdx.x]) return;
    if (threadIdx.x == 0) found = 0;
    for (int l = 0; l < t->l_max - 1; l++) PHASES(transpose(w, t, l))
    for (int update = 0; update < b->updates; update++) {
        for (int i = 0; i < t->instructions; i++) {
            int operation = t->program[2 * i];
            if (operation == COUNT) PHASES(count_right(w, t, b, update, launch->right + blockIdx.x))
            else operate(t, b, update, operation, t->program[2 * i + 1]);
        }
        if (!looks_after(launch, update + 1, b->updates)) continue;
        PHASES(look(w, t, &found))
        if (!found) continue;
        if (threadIdx.x == 0) launch->nonfinite[blockIdx.x] = launch->done + update + 1;
        return;
    }
}

/* ---- Networks whose layers but the input are as wide as a warp at most ---- */

#ifdef WIDTHS
constexpr int N[] = {WIDTHS}, L = sizeof(N) / sizeof(N[0]) - 1; /* by l; l_max */
constexpr int SMALL = L > 1 ? L - 1 : 1;                        /* layers without pixels below */
constexpr int UNITS = 32, QUAD = 4;
constexpr int WARPS = (BATCH + SAMPLES - 1) / SAMPLES, PLACES = WARPS * SAMPLES;

/* For how many blocks a multiprocessor must have registers: as many as spill none. */
#ifdef DOUBLE
constexpr int BLOCKS = 1;
#elif __CUDA_ARCH__ >= 1000
constexpr int BLOCKS = WARPS > 5 ? 1 : 2;
#else
constexpr int BLOCKS = WARPS > 5 ? 1 : 3;
#endif

struct alignas(16) Quad { real at[QUAD]; };

struct Shared {
    alignas(16) real fx[SMALL][PLACES][UNITS]; /* of layer l + 1 */
    real eps[L][PLACES][UNITS], gated[PLACES][UNITS];
    real theta[SMALL][UNITS][UNITS];       /* theta^{l+1}[j][k] at [l][j][k] */
    real turned[SMALL][UNITS][UNITS + 1];  /* at [l][k][j]: a warp writes columns, too */
    real bias[L][UNITS];
    Entry staged[WARPS][QUAD > SAMPLES ? QUAD : SAMPLES][UNITS];
    int found;
};

struct Activities { real a[L][SAMPLES], d[L][SAMPLES], mu[L][SAMPLES]; }; /* of one unit a layer */

struct Warp {
    int number, lane, first; /* its first sample */
    const Trial *t;
    const Batches *b;
    Shared *m;
    real gamma, rate; /* in registers, because what is read from memory would be read each time */
    int update;
    __device__ int has(int s) const { return first + s < b->batch; }
};

#define EACH_SAMPLE UNROLL for (int s = 0; s < SAMPLES; s++)

/* The entries of up to QUAD or SAMPLES rows of a list, UNITS of each at a time, are staged in shared
 * memory. What is beyond a row's end is marked, and does not count. */
INLINE void stage(const Warp &w, int place, const Entry *list, int at, int end) {
    Entry none = {-1, 0};
    w.m->staged[w.number][place][w.lane] = at + w.lane < end ? list[at + w.lane] : none;
}

INLINE real add_entry(Entry entry, real factor, real sum) {
    real more = fma_(entry.value, factor, sum);
    return entry.at < 0 ? sum : more;
}

INLINE void predict_from_pixels(const Warp &w, real *sum) {
    constexpr int n = N[L - 1];
    const int32_t *rows = w.b->sample_rows + (int64_t)w.update * w.b->batch + w.first;
    const real *theta = w.t->theta[L - 1] + (w.lane < n ? w.lane : 0);
    int begin[SAMPLES], end[SAMPLES], most = 0;
    EACH_SAMPLE {
        begin[s] = w.has(s) ? rows[s] : 0;
        end[s] = w.has(s) ? rows[s + 1] : 0;
        if (end[s] - begin[s] > most) most = end[s] - begin[s];
    }
    for (int start = 0; start < most; start += UNITS) {
        __syncwarp();
        EACH_SAMPLE stage(w, s, w.b->samples, begin[s] + start, end[s]);
        __syncwarp();
        int count = most - start < UNITS ? most - start : UNITS;
        _Pragma("unroll 4") for (int k = 0; k < count; k++)
            EACH_SAMPLE {
                Entry entry = w.m->staged[w.number][s][k];
                sum[s] = add_entry(entry, theta[(entry.at < 0 ? 0 : entry.at) * n], sum[s]);
            }
    }
}

/* sum[s] over k < K of rows[s][k] times column[k * step] */
template <int K>
INLINE void add_products(const real (*rows)[UNITS], const real *column, int step, real *sum) {
    _Pragma("unroll 2") for (int k = 0; k + QUAD <= K; k += QUAD) {
        real factor[QUAD];
        UNROLL for (int q = 0; q < QUAD; q++) factor[q] = column[(k + q) * step];
        EACH_SAMPLE {
            Quad quad = *(const Quad *)&rows[s][k];
            UNROLL for (int q = 0; q < QUAD; q++) sum[s] = fma_(quad.at[q], factor[q], sum[s]);
        }
    }
    UNROLL for (int k = K / QUAD * QUAD; k < K; k++)
        EACH_SAMPLE sum[s] = fma_(rows[s][k], column[k * step], sum[s]);
}

template <int l> INLINE void predict_mu(const Warp &w, Activities &x) {
    real sum[SAMPLES];
    EACH_SAMPLE sum[s] = 0;
    if constexpr (l == L - 1)
        predict_from_pixels(w, sum);
    else
        add_products<N[l + 1]>(w.m->fx[l] + w.first, &w.m->turned[l][0][w.lane], UNITS + 1, sum);
    EACH_SAMPLE x.mu[l][s] = BIASED ? sum[s] + w.m->bias[l][w.lane] : sum[s];
}

template <int l> INLINE void begin_x(const Warp &w, Activities &x) {
    const real *noise = w.b->noise ? w.b->noise[l] : 0;
    int at = (w.update * w.b->batch + w.first) * N[l] + w.lane;
    EACH_SAMPLE {
        real mu = x.mu[l][s];
        x.a[l][s] = mu;
        x.d[l][s] = TEXTBOOK ? mu : 0;
        if (!noise || w.lane >= N[l] || !w.has(s)) continue;
        real shift = w.t->sigma * noise[at + s * N[l]];
        x.d[l][s] = TEXTBOOK ? mu + shift : shift;
    }
}

INLINE void clamp_x(const Warp &w, Activities &x) {
    int at = (w.update * w.b->batch + w.first) * N[0] + w.lane;
    EACH_SAMPLE {
        if (w.lane >= N[0] || !w.has(s)) continue;
        real target = w.b->targets[at + s * N[0]], mu = x.mu[0][s], error = target - mu;
        x.a[0][s] = mu;
        x.d[0][s] = TEXTBOOK ? target : error;
        w.t->squares[(w.first + s) * N[0] + w.lane] += (double)error * error;
    }
}

/* x^l and f(x^l) */
template <int l> INLINE void take_f(const Warp &w, Activities &x) {
    EACH_SAMPLE w.m->fx[l - 1][w.first + s][w.lane] =
        f_of(F, TEXTBOOK ? x.d[l][s] : x.a[l][s] + x.d[l][s]);
}

template <int l> INLINE void take_errors(const Warp &w, Activities &x) {
    EACH_SAMPLE {
        real from = TEXTBOOK ? x.mu[l][s] : x.mu[l][s] - x.a[l][s];
        w.m->eps[l][w.first + s][w.lane] = x.d[l][s] - from;
    }
}

template <int l> INLINE void listen_to(const Warp &w) {
    if (w.lane >= N[l]) return;
    EACH_SAMPLE {
        int i = (w.first + s) * N[l] + w.lane;
        if (!w.has(s)) continue;
        int heard = w.m->eps[l][w.first + s][w.lane] != 0, quiet = w.t->quiet[l][i];
        w.t->phi[l][i] = heard & (quiet >= w.t->t_d);
        w.t->quiet[l][i] = heard ? 0 : quiet + 1;
    }
}

template <int l> INLINE void pull_back_to(const Warp &w, real *pulled) {
    EACH_SAMPLE pulled[s] = 0;
    add_products<N[l - 1]>(w.m->eps[l - 1] + w.first, &w.m->theta[l - 1][0][w.lane], UNITS, pulled);
    EACH_SAMPLE pulled[s] = f_back(F, pulled[s], w.m->fx[l - 1][w.first + s][w.lane]);
}

template <int l> INLINE void move_x(const Warp &w, Activities &x) {
    real pulled[SAMPLES];
    pull_back_to<l>(w, pulled);
    EACH_SAMPLE {
        real change = (pulled[s] - w.m->eps[l][w.first + s][w.lane]) * w.gamma;
        x.d[l][s] = x.d[l][s] + change;
    }
}

template <int l> INLINE void pull_errors(const Warp &w) {
    real pulled[SAMPLES];
    pull_back_to<l>(w, pulled);
    EACH_SAMPLE w.m->eps[l][w.first + s][w.lane] = pulled[s];
}

INLINE void learn_from_pixels(const Warp &w, const real (*eps)[UNITS]) {
    constexpr int n = N[L - 1], K = N[L];
    const int32_t *rows = w.b->pixel_rows + (int64_t)w.update * K;
    real *theta = w.t->theta[L - 1] + (w.lane < n ? w.lane : 0);
    for (int first = w.number * QUAD; first < K; first += WARPS * QUAD) {
        int begin[QUAD], end[QUAD], most = 0;
        real sum[QUAD], before[QUAD];
        UNROLL for (int q = 0; q < QUAD; q++) {
            int k = first + q;
            begin[q] = k < K ? rows[k] : 0;
            end[q] = k < K ? rows[k + 1] : 0;
            if (end[q] - begin[q] > most) most = end[q] - begin[q];
            sum[q] = 0;
            before[q] = begin[q] < end[q] ? theta[k * n] : 0;
        }
        for (int start = 0; start < most; start += UNITS) {
            __syncwarp();
            UNROLL for (int q = 0; q < QUAD; q++) stage(w, q, w.b->pixels, begin[q] + start, end[q]);
            __syncwarp();
            int count = most - start < UNITS ? most - start : UNITS;
            for (int i = 0; i < count; i++)
                UNROLL for (int q = 0; q < QUAD; q++) {
                    Entry entry = w.m->staged[w.number][q][i];
                    sum[q] = add_entry(entry, eps[entry.at < 0 ? 0 : entry.at][w.lane], sum[q]);
                }
        }
        UNROLL for (int q = 0; q < QUAD; q++)
            if (begin[q] < end[q] && w.lane < n)
                theta[(first + q) * n] = fma_(w.rate, sum[q], before[q]);
    }
}

template <int l> INLINE void learn_between(const Warp &w, const real (*eps)[UNITS]) {
    for (int first = w.number * QUAD; first < N[l]; first += WARPS * QUAD) {
        real sum[QUAD] = {};
        for (int i = 0; i < w.b->batch; i++) {
            Quad errors = *(const Quad *)&eps[i][first];
            real fx = w.m->fx[l][i][w.lane];
            UNROLL for (int q = 0; q < QUAD; q++) sum[q] = fma_(errors.at[q], fx, sum[q]);
        }
        if (w.lane < N[l + 1])
            UNROLL for (int q = 0; q < QUAD; q++) {
                int j = first + q;
                if (j >= N[l]) continue;
                real theta = fma_(w.rate, sum[q], w.m->theta[l][j][w.lane]);
                w.m->theta[l][j][w.lane] = w.m->turned[l][w.lane][j] = theta;
            }
    }
}

/* The bias of unit `lane`, by the first warp. */
INLINE void learn_bias_of(const Warp &w, int l, const real (*eps)[UNITS]) {
    real sum = 0;
    for (int i = 0; i < w.b->batch; i++) sum = sum + eps[i][w.lane];
    w.m->bias[l][w.lane] = fma_(w.rate, sum, w.m->bias[l][w.lane]);
}

/* All warps meet before weights change, and after it. */
template <int l> INLINE void learn_theta(const Warp &w, int is_gated) {
    if (is_gated)
        EACH_SAMPLE {
            int phi = w.lane < N[l] && w.has(s) ? w.t->phi[l][(w.first + s) * N[l] + w.lane] : 0;
            w.m->gated[w.first + s][w.lane] = phi ? w.m->eps[l][w.first + s][w.lane] : 0;
        }
    const real(*eps)[UNITS] = is_gated ? w.m->gated : w.m->eps[l];
    __syncthreads();
    if constexpr (l == L - 1)
        learn_from_pixels(w, eps);
    else
        learn_between<l>(w, eps);
    if (BIASED && w.number == 0) learn_bias_of(w, l, eps);
    __syncthreads();
}

INLINE void forget_all(const Warp &w) {
    for (int l = 0; l < L; l++)
        for (int i = threadIdx.x; i < w.b->batch * N[l]; i += blockDim.x)
            w.t->quiet[l][i] = w.t->t_d;
    __syncthreads();
}

INLINE void count_predictions(const Warp &w, const Activities &x, int32_t *right) {
    EACH_SAMPLE w.m->eps[0][w.first + s][w.lane] = x.mu[0][s];
    __syncwarp();
    int i = w.first + w.lane;
    if (w.lane >= SAMPLES || i >= w.b->batch) return;
    const real *target = w.b->targets + ((int64_t)w.update * w.b->batch + i) * N[0];
    if (is_right(w.m->eps[0][i], target, N[0])) atomicAdd(right, 1);
}

template <int l> INLINE void operate_on(int operation, const Warp &w, Activities &x, int32_t *right) {
    switch (operation) {
    case PREDICT: predict_mu<l>(w, x); break;
    case CLAMP:
        clamp_x(w, x);
        if (w.t->t_d) forget_all(w);
        break;
    case COMPARE: take_errors<l>(w, x); break;
    case LISTEN: listen_to<l>(w); break;
    case LEARN: learn_theta<l>(w, 0); break;
    case LEARN_GATED: learn_theta<l>(w, 1); break;
    case COUNT: count_predictions(w, x, right); break;
    default:
        if constexpr (l > 0) {
            if (operation == BEGIN) begin_x<l>(w, x);
            if (operation == ACTIVATE) take_f<l>(w, x);
            if (operation == MOVE) move_x<l>(w, x);
            if (operation == PULL_BACK) pull_errors<l>(w);
        }
    }
}

#define LAYER(l)                                                           \
    case l:                                                                \
        if constexpr (l < L) operate_on<l>(operation, w, x, right);        \
        break;

/* Makes an update. The lanes of a warp wait for each other between two operations. */
INLINE void make_update(const Warp &w, int32_t *right) {
    Activities x = {};
    const int2 *program = (const int2 *)w.t->program;
    int2 next = program[0];
    for (int i = 0; i < w.t->instructions; i++) {
        int operation = next.x, layer = next.y;
        next = program[i + 1]; /* it comes while the operation is at work; one place is beyond */
        __syncwarp();
        switch (layer) { LAYER(0) LAYER(1) LAYER(2) LAYER(3) LAYER(4) }
    }
}

/* Copies the small weights from the trial's memory, where `back` is 0, and else to there. */
INLINE void copy_weights(const Trial *t, Shared *m, int back) {
    for (int l = 0; l < L; l++) {
        if (l < L - 1)
            for (int i = threadIdx.x; i < UNITS * UNITS; i += blockDim.x) {
                int j = i / UNITS, k = i % UNITS;
                int is = j < N[l] && k < N[l + 1];
                if (back && is) t->theta[l][j * N[l + 1] + k] = m->theta[l][j][k];
                if (!back)
                    m->theta[l][j][k] = m->turned[l][k][j] = is ? t->theta[l][j * N[l + 1] + k] : 0;
            }
        for (int j = threadIdx.x; BIASED && j < UNITS; j += blockDim.x) {
            if (back && j < N[l]) t->bias[l][j] = m->bias[l][j];
            if (!back) m->bias[l][j] = j < N[l] ? t->bias[l][j] : 0;
        }
    }
    __syncthreads();
}

INLINE int finds_nonfinite(const Trial *t, Shared *m) {
    if (threadIdx.x == 0) m->found = 0;
    __syncthreads();
    int bad = 0;
    for (int i = threadIdx.x; i < N[L] * N[L - 1]; i += blockDim.x)
        bad |= !is_finite(t->theta[L - 1][i]);
    for (int l = 0; l < L; l++) {
        for (int i = threadIdx.x; l < L - 1 && i < UNITS * UNITS; i += blockDim.x)
            bad |= !is_finite(m->theta[l][i / UNITS][i % UNITS]);
        for (int j = threadIdx.x; BIASED && j < N[l]; j += blockDim.x)
            bad |= !is_finite(m->bias[l][j]);
    }
    if (bad) atomicOr(&m->found, 1);
    __syncthreads();
    return m->found;
}

extern "C" __global__ void __launch_bounds__(WARPS * UNITS, BLOCKS) train_samples(const Launch *launch) {
    extern __shared__ __align__(16) unsigned char shared_memory[];
    Shared *m = (Shared *)shared_memory;
    int number = threadIdx.x / UNITS, block = blockIdx.x;
    const Trial *t = launch->trials + block;
    const Batches *b = launch->batches + launch->seeds[block];
    if (launch->nonfinite[block]) return;
    int lane = (int)threadIdx.x % UNITS;
    Warp w = {number, lane, number * SAMPLES, t, b, m, t->gamma, t->rate, 0};
    copy_weights(t, m, 0);
    for (; w.update < b->updates; w.update++) {
        make_update(w, launch->right + block);
        if (!looks_after(launch, w.update + 1, b->updates)) continue;
        if (!finds_nonfinite(t, m)) continue;
        if (threadIdx.x == 0) launch->nonfinite[block] = launch->done + w.update + 1;
        break;
    }
    copy_weights(t, m, 1); /* all warps have met since weights changed */
}

extern "C" __global__ void shared_bytes(const int64_t *bytes) { *(int64_t *)bytes = sizeof(Shared); }
#endif
