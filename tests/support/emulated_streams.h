/* What is put into the streams of an emulated GPU, and when it is done.
 *
 * By CUDA's rules, work of a stream may be done at any time after what it waits for. Here it is done
 * as late as can be, at once, or in between, by EMULATED_TIMES, so that a wait that was forgotten
 * shows. A captured graph is done node by node, in an order that is drawn anew each time.
 */
#pragma once
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

struct Node;
using NodeP = std::shared_ptr<Node>;
struct Node {
    std::vector<NodeP> before; /* what has to be done first */
    std::function<void()> work;
    bool calls_python = false, done = false;
};

struct CUstream_st;
struct CUgraph_st { std::vector<NodeP> nodes; };     /* in the order of their capture */
struct CUgraphExec_st { std::vector<NodeP> nodes; };

struct Capture {
    CUgraph_st *graph;
    cudaStreamCaptureMode mode;
    std::thread::id owner;
    unsigned long long id;
    std::vector<CUstream_st *> streams; /* the first one began it */
    bool broken = false;
};

struct CUstream_st {
    NodeP last;
    std::shared_ptr<Capture> capture;
    std::vector<NodeP> captured; /* what the next node of the graph waits for */
};

struct CUevent_st {
    NodeP node;
    std::shared_ptr<Capture> capture;
    std::vector<NodeP> captured;
    bool timing = true;
    std::shared_ptr<double> milliseconds; /* when it was met */
};

enum Times { LATE, AT_ONCE, BETWEEN };
enum { SHARED_OF_BLOCK = 232448, THREADS_OF_BLOCK = 1024 };

inline std::recursive_mutex everything;
inline CUstream_st default_stream;
inline std::vector<CUstream_st *> streams{&default_stream};
inline std::vector<std::shared_ptr<Capture>> captures;
inline cudaError_t broken; /* the error after which nothing works any more */
inline thread_local cudaError_t last_error;
inline thread_local bool has_context;
inline thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;
inline unsigned long long drawn = 88172645463325252ULL;

inline unsigned long long draw() {
    drawn ^= drawn << 13;
    drawn ^= drawn >> 7;
    return drawn ^= drawn << 17;
}

inline long setting(const char *name, long otherwise) {
    const char *value = getenv(name);
    return value ? atol(value) : otherwise;
}
inline const Times times = (Times)setting("EMULATED_TIMES", LATE);
inline const size_t all_memory = (size_t)setting("EMULATED_MEMORY", 4L << 30);

/* Python's functions for its own lock. There are none in a process without Python. */
inline const auto holds_python = (int (*)())dlsym(RTLD_DEFAULT, "PyGILState_Check");
inline const auto save_python = (void *(*)())dlsym(RTLD_DEFAULT, "PyEval_SaveThread");
inline const auto restore_python = (void (*)(void *))dlsym(RTLD_DEFAULT, "PyEval_RestoreThread");
inline const auto take_python = (int (*)())dlsym(RTLD_DEFAULT, "PyGILState_Ensure");
inline const auto give_python = (void (*)(int))dlsym(RTLD_DEFAULT, "PyGILState_Release");

/* A lock of all that is here. Who waits for it gives Python's lock away meanwhile. */
inline thread_local int times_locked;
struct Lock {
    Lock() {
        if (!everything.try_lock()) {
            void *state = holds_python && holds_python() ? save_python() : nullptr;
            everything.lock();
            if (state) restore_python(state);
        }
        times_locked++;
    }
    ~Lock() {
        times_locked--;
        everything.unlock();
    }
};

/* Python's lock, for work that calls Python. Nobody waits for it with a lock of ours: whoever has
 * Python's lock may wait for a lock of torch's, whose owner waits for ours. So when this is made,
 * other threads may have done what this one was about to do. */
struct PythonLock {
    bool taken = !holds_python();
    int state;
    PythonLock() {
        int locked = times_locked;
        while (taken) {
            for (int i = 0; i < locked; i++) everything.unlock();
            state = take_python();
            int again = 0;
            while (again < locked && everything.try_lock()) again++;
            if (again == locked) return;
            give_python(state);
            std::this_thread::yield();
            for (int i = 0; i < locked; i++) everything.lock();
        }
    }
    ~PythonLock() {
        if (taken) give_python(state);
    }
};

inline cudaError_t fail(cudaError_t error) {
    if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
    return error;
}

#define RUNTIME                       \
    Lock lock;                        \
    has_context = true;               \
    if (broken) return fail(broken);

inline void break_down(const std::string &why) {
    fprintf(stderr, "emulated GPU: %s\n", why.c_str());
    broken = cudaErrorLaunchFailure;
}

/* Does what the node waits for, and then the node. */
inline void complete(NodeP node) {
    std::vector<NodeP> stack{node};
    while (!stack.empty()) {
        NodeP top = stack.back();
        auto open = std::find_if(top->before.begin(), top->before.end(),
                                 [](const NodeP &n) { return !n->done; });
        if (!top->done && open != top->before.end()) {
            stack.push_back(*open);
            continue;
        }
        stack.pop_back();
        if (top->done) continue;
        std::optional<PythonLock> python;
        if (top->calls_python) python.emplace();
        if (top->work && !broken && !top->done) top->work();
        top->done = true;
        top->before.clear();
        top->work = nullptr;
    }
}

inline void complete(CUstream_st *stream) {
    if (stream->last) complete(stream->last);
}

inline void complete_all() {
    for (size_t i = 0; i < streams.size(); i++) complete(streams[i]);
}

inline CUstream_st *stream_of(cudaStream_t stream) {
    return stream ? stream : &default_stream; /* no other stream waits for this one */
}

inline cudaError_t spoil(const std::shared_ptr<Capture> &capture, cudaError_t error) {
    capture->broken = true;
    return fail(error);
}

inline void add(CUstream_st *s, std::vector<NodeP> also, std::function<void()> work,
                bool calls_python = false) {
    auto node = std::make_shared<Node>();
    node->calls_python = calls_python;
    node->before = std::move(also);
    node->work = std::move(work);
    if (s->capture) {
        node->before.insert(node->before.end(), s->captured.begin(), s->captured.end());
        s->capture->graph->nodes.push_back(node);
        s->captured = {node};
        return;
    }
    if (s->last && !s->last->done) node->before.push_back(s->last);
    s->last = node;
    if (times == AT_ONCE) complete(node);
    if (times == BETWEEN && draw() % 4 == 0) complete(streams[draw() % streams.size()]);
}

inline cudaError_t put(cudaStream_t stream, std::function<void()> work, bool calls_python = false) {
    CUstream_st *s = stream_of(stream);
    if (s->capture && s->capture->broken) return fail(cudaErrorStreamCaptureInvalidated);
    add(s, {}, std::move(work), calls_python);
    return cudaSuccess;
}

/* Whether a call that a capture may not allow is made by a thread that may not make it. */
inline cudaError_t unsafe() {
    if (thread_mode == cudaStreamCaptureModeRelaxed) return cudaSuccess;
    auto self = std::this_thread::get_id();
    for (auto &c : captures) {
        bool own = c->owner == self && c->mode != cudaStreamCaptureModeRelaxed;
        bool global = thread_mode == cudaStreamCaptureModeGlobal &&
                      c->mode == cudaStreamCaptureModeGlobal;
        if (own || global) return spoil(c, cudaErrorStreamCaptureUnsupported);
    }
    return cudaSuccess;
}
#define UNSAFE                                      \
    if (cudaError_t error = unsafe()) return error;

