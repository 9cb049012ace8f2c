/* Runs a kernel that was compiled with emulated_gpu.h. Blocks run one after another.
 *
 * The threads of a block are fibers of one thread of the CPU: each runs until it comes to a barrier.
 * A warp runs until all of its threads wait for the block, so that it is as far ahead of the others
 * as it can be. With REAL_THREADS they are threads of the CPU, for ThreadSanitizer.
 */
#include <array>
#include <barrier>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <thread>
#include <ucontext.h>
#include <utility>
#include <vector>

#include "emulated_gpu.h"

enum { MOST_THREADS = 1024, MOST_ARGUMENTS = 16, STACK = 1 << 16, SHARED = 1 << 18 };
enum { ASCENDING, REVERSED, SHUFFLED };
static const unsigned char POISON = 0xff; /* as a number it is NaN, and as an integer -1 */

OF_A_THREAD dim3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
alignas(128) unsigned char shared_memory[SHARED];

static void *the_kernel;
static const long long *the_arguments;
static const char *failure;
static unsigned long long slots[MOST_THREADS]; /* what each thread passes to its warp */

template <size_t... I> static void call(std::index_sequence<I...>) {
    auto kernel = (void (*)(decltype((void)I, 0LL)...))the_kernel;
    kernel(the_arguments[I]...); /* what is too much is not read */
}
static void call_kernel() { call(std::make_index_sequence<MOST_ARGUMENTS>()); }

static int first_of_warp() { return (int)threadIdx.x / warpSize * warpSize; }
static int size_of_warp(int first) { return min(warpSize, (int)blockDim.x - first); }

#ifdef REAL_THREADS
static std::unique_ptr<std::barrier<>> the_block;
static std::deque<std::barrier<>> the_warps;
static thread_local int met; /* how many barriers of the block this thread has met */

void emulated_failure(const char *message) {
    fprintf(stderr, "%s\n", message);
    abort();
}

void __syncthreads() {
    met++;
    the_block->arrive_and_wait();
}

static void wait_for_warp() { the_warps[threadIdx.x / warpSize].arrive_and_wait(); }

static void run_block(dim3 block, int, unsigned long long *) {
    int n = (int)blockDim.x;
    std::vector<int> counts(n);
    std::vector<std::thread> threads;
    the_block = std::make_unique<std::barrier<>>(n);
    the_warps.clear();
    for (int first = 0; first < n; first += warpSize) the_warps.emplace_back(size_of_warp(first));
    for (int i = 0; i < n; i++)
        threads.emplace_back([=, &counts] {
            threadIdx = {(unsigned)i, 0, 0};
            blockIdx = block;
            call_kernel();
            counts[i] = met;
            the_block->arrive_and_drop();
            the_warps[i / warpSize].arrive_and_drop();
        });
    for (auto &thread : threads) thread.join();
    for (int count : counts)
        if (count != counts[0]) failure = "not every thread of the block comes to a barrier";
}
#else
enum State { READY, AT_BLOCK, AT_WARP, DONE };
struct Fiber {
    State state;
    bool started;
    jmp_buf place;
    ucontext_t start;
};
static Fiber fibers[MOST_THREADS];
static Fiber *running;
static jmp_buf scheduler;

void emulated_failure(const char *message) {
    failure = message;
    _longjmp(scheduler, 1);
}

static void wait(State state) {
    running->state = state;
    if (_setjmp(running->place) == 0) _longjmp(scheduler, 1);
}
void __syncthreads() { wait(AT_BLOCK); }
static void wait_for_warp() { wait(AT_WARP); }

static void enter() {
    call_kernel();
    running->state = DONE;
    _longjmp(scheduler, 1);
}

/* Runs thread i until it waits or is done. A context would save signals at every change, by a call
 * of the system. So only the first change to a fiber is one. */
static void run(int i) {
    running = &fibers[i];
    threadIdx = {(unsigned)i, 0, 0};
    if (_setjmp(scheduler)) return;
    if (running->started) _longjmp(running->place, 1);
    running->started = true;
    setcontext(&running->start);
}

static unsigned long long random_number(unsigned long long *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

static void put_in_order(int count, int *numbers, int order, unsigned long long *state) {
    for (int i = 0; i < count; i++) numbers[i] = order == REVERSED ? count - 1 - i : i;
    if (order != SHUFFLED) return;
    for (int i = count - 1; i > 0; i--)
        std::swap(numbers[i], numbers[random_number(state) % (i + 1)]);
}

/* If any of these threads wait, all must. Then they may go on. Returns whether they do. */
static bool release(int first, int count, State waiting, const char *otherwise) {
    int waits = 0;
    for (int i = first; i < first + count; i++) waits += fibers[i].state == waiting;
    if (waits && waits < count) failure = otherwise;
    if (waits == 0 || failure) return false;
    for (int i = first; i < first + count; i++) fibers[i].state = READY;
    return true;
}

static void run_warp(int first, int order, unsigned long long *state) {
    int lanes[warpSize], size = size_of_warp(first);
    do {
        put_in_order(size, lanes, order, state);
        for (int i = 0; i < size && !failure; i++)
            if (fibers[first + lanes[i]].state == READY) run(first + lanes[i]);
    } while (!failure && release(first, size, AT_WARP,
                                 "not every thread of the warp comes to a barrier of the warp"));
}

static void run_block(dim3 block, int order, unsigned long long *state) {
    int n = (int)blockDim.x, warps = (n + warpSize - 1) / warpSize, numbers[MOST_THREADS];
    static std::unique_ptr<char[]> stacks(new char[(size_t)MOST_THREADS * STACK]);
    blockIdx = block;
    for (int i = 0; i < n; i++) {
        fibers[i].state = READY;
        fibers[i].started = false;
        getcontext(&fibers[i].start);
        fibers[i].start.uc_stack.ss_sp = stacks.get() + (size_t)i * STACK;
        fibers[i].start.uc_stack.ss_size = STACK;
        makecontext(&fibers[i].start, enter, 0);
    }
    do {
        put_in_order(warps, numbers, order, state);
        for (int w = 0; w < warps && !failure; w++) run_warp(numbers[w] * warpSize, order, state);
    } while (!failure &&
             release(0, n, AT_BLOCK, "not every thread of the block comes to a barrier"));
}
#endif

static void require_all(unsigned mask) {
    if (mask != ~0u) emulated_failure("a mask of some threads of a warp is not emulated");
}

void __syncwarp(unsigned mask) {
    require_all(mask);
    wait_for_warp();
}

unsigned long long emulated_exchange(unsigned mask, unsigned long long mine, int lane) {
    int first = first_of_warp();
    slots[threadIdx.x] = mine;
    __syncwarp(mask);
    unsigned long long theirs = lane < size_of_warp(first) ? slots[first + lane] : mine;
    __syncwarp(mask);
    return theirs;
}

unsigned __ballot_sync(unsigned mask, int votes) {
    unsigned ballot = 0;
    int first = first_of_warp();
    slots[threadIdx.x] = votes != 0;
    __syncwarp(mask);
    for (int lane = 0; lane < size_of_warp(first); lane++)
        ballot |= (unsigned)slots[first + lane] << lane;
    __syncwarp(mask);
    return ballot;
}

static bool untouched_from(int shared) {
    const unsigned char *rest = shared_memory + shared;
    if (shared == SHARED) return true;
    return *rest == POISON && memcmp(rest, rest + 1, SHARED - shared - 1) == 0;
}

/* Returns NULL, or what is wrong with the kernel. There must be MOST_ARGUMENTS arguments. */
extern "C" const char *emulated_launch(void *kernel, int blocks, int threads, int shared,
                                       const long long *arguments, int order,
                                       unsigned long long seed) {
    if (threads < 1 || threads > MOST_THREADS) return "a block has 1 to 1024 threads";
    if (shared < 0 || shared > SHARED) return "there are 256 kB of shared memory";
    the_kernel = kernel;
    the_arguments = arguments;
    failure = nullptr;
    gridDim = {(unsigned)blocks, 1, 1};
    blockDim = {(unsigned)threads, 1, 1};
    unsigned long long state = seed * 2 + 1;
    for (int block = 0; block < blocks && !failure; block++) {
        memset(shared_memory, POISON, SHARED);
        run_block({(unsigned)block, 0, 0}, order, &state);
        if (!failure && !untouched_from(shared))
            failure = "a block writes beyond the shared memory that it asked for";
    }
    return failure;
}
