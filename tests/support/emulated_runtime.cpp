/* CUDA's runtime without a GPU: torch believes in a GPU, whose memory is the CPU's.
 *
 * What CUDA forbids is refused with CUDA's error: a call that a capture does not allow, a stream that
 * was not joined. Torch's own kernels have no code for a CPU here: emulated_torch.py does their work.
 * This library is loaded before all others, and its functions take the place of NVIDIA's.
 */
#include <sys/mman.h>

#include <chrono>
#include <cstring>
#include <set>

#include "emulated_streams.h"

static std::map<uintptr_t, size_t> device_memory, host_memory;
static size_t used;
static std::map<const void *, std::string> kernels_of_torch;

/* ---- Memory ---- */

static bool within(const std::map<uintptr_t, size_t> &memory, const void *p) {
    auto at = memory.upper_bound((uintptr_t)p);
    return at != memory.begin() && (uintptr_t)p < (--at)->first + at->second;
}

extern "C" {
cudaError_t cudaMalloc(void **p, size_t size) {
    RUNTIME UNSAFE
    size = (size + 511) / 512 * 512;
    if (used + size > all_memory) return fail(cudaErrorMemoryAllocation);
    *p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(*p, 0xff, size); /* NaN, or -1 */
    device_memory[(uintptr_t)*p] = size;
    used += size;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p) {
    RUNTIME UNSAFE
    if (!p) return cudaSuccess;
    complete_all();
    auto at = device_memory.find((uintptr_t)p);
    if (at == device_memory.end()) return fail(cudaErrorInvalidValue);
    used -= at->second;
    munmap(p, at->second); /* who still uses it is ended by a signal */
    device_memory.erase(at);
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **p, size_t size, unsigned) {
    RUNTIME UNSAFE
    *p = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
    host_memory[(uintptr_t)*p] = size;
    return cudaSuccess;
}
cudaError_t cudaMallocHost(void **p, size_t size) { return cudaHostAlloc(p, size, 0); }

cudaError_t cudaFreeHost(void *p) {
    RUNTIME UNSAFE
    complete_all();
    if (!host_memory.erase((uintptr_t)p)) return fail(cudaErrorInvalidValue);
    free(p);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    RUNTIME
    *free_bytes = all_memory - used;
    *total = all_memory;
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *a, const void *p) {
    RUNTIME
    bool device = within(device_memory, p), host = within(host_memory, p);
    *a = {};
    a->type = device ? cudaMemoryTypeDevice : host ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
    a->device = device || host ? 0 : -2;
    a->devicePointer = device || host ? (void *)p : nullptr;
    a->hostPointer = device ? nullptr : (void *)p;
    return cudaSuccess;
}

/* From and to memory that is not pinned, a copy has read, or is done, when the call returns. */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind,
                            cudaStream_t stream) {
    RUNTIME
    bool to_device = within(device_memory, to), from_device = within(device_memory, from);
    bool loose = (!to_device && !within(host_memory, to)) ||
                 (!from_device && !within(host_memory, from));
    CUstream_st *s = stream_of(stream);
    if (s->capture && loose) return spoil(s->capture, cudaErrorStreamCaptureUnsupported);
    if (loose && !from_device) {
        auto staged = std::make_shared<std::vector<char>>((char *)from, (char *)from + size);
        return put(stream, [=] { memcpy(to, staged->data(), size); });
    }
    if (cudaError_t error = put(stream, [=] { memmove(to, from, size); })) return error;
    if (loose) complete(s);
    return broken ? fail(broken) : cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t size, cudaMemcpyKind kind) {
    RUNTIME UNSAFE
    if (cudaError_t error = cudaMemcpyAsync(to, from, size, kind, nullptr)) return error;
    complete(&default_stream);
    return broken ? fail(broken) : cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t size, cudaStream_t stream) {
    RUNTIME
    return put(stream, [=] { memset(p, value, size); });
}

/* ---- Streams and events ---- */

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int) {
    RUNTIME
    if (flags != cudaStreamNonBlocking) {
        break_down("a stream that waits for the default one is not emulated");
        return fail(broken);
    }
    streams.push_back(*stream = new CUstream_st);
    return cudaSuccess;
}
cudaError_t cudaStreamGetPriority(cudaStream_t, int *priority) { *priority = 0; return cudaSuccess; }
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    RUNTIME UNSAFE
    CUstream_st *s = stream_of(stream);
    if (s->capture) return spoil(s->capture, cudaErrorStreamCaptureUnsupported);
    complete(s);
    return broken ? fail(broken) : cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
    RUNTIME UNSAFE
    CUstream_st *s = stream_of(stream);
    if (s->capture) return spoil(s->capture, cudaErrorStreamCaptureUnsupported);
    return !s->last || s->last->done ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaDeviceSynchronize(void) {
    RUNTIME UNSAFE
    complete_all();
    return broken ? fail(broken) : cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    RUNTIME
    *event = new CUevent_st;
    (*event)->timing = !(flags & cudaEventDisableTiming);
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, 0); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    RUNTIME
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned) {
    RUNTIME
    CUstream_st *s = stream_of(stream);
    event->capture = s->capture;
    event->captured = s->captured;
    if (s->capture) return cudaSuccess;
    auto met = event->milliseconds = std::make_shared<double>(); /* the event may be gone by then */
    add(s, {}, [=] {
        auto now = std::chrono::steady_clock::now().time_since_epoch();
        *met = std::chrono::duration<double, std::milli>(now).count();
    });
    event->node = s->last;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    return cudaEventRecordWithFlags(event, stream, 0);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    RUNTIME UNSAFE
    if (event->capture) return spoil(event->capture, cudaErrorCapturedEvent);
    if (event->node) complete(event->node);
    return broken ? fail(broken) : cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    RUNTIME UNSAFE
    if (event->capture) return spoil(event->capture, cudaErrorCapturedEvent);
    return !event->node || event->node->done ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end) {
    RUNTIME
    for (cudaEvent_t event : {start, end}) {
        if (!event->timing || !event->node) return fail(cudaErrorInvalidResourceHandle);
        if (!event->node->done) return cudaErrorNotReady;
    }
    *ms = (float)(*end->milliseconds - *start->milliseconds);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    RUNTIME
    CUstream_st *s = stream_of(stream);
    if (event->capture) {
        if (s->capture && s->capture != event->capture)
            return spoil(event->capture, cudaErrorStreamCaptureMerge);
        if (!s->capture) {
            s->capture = event->capture;
            s->capture->streams.push_back(s);
        }
        s->captured.insert(s->captured.end(), event->captured.begin(), event->captured.end());
        return cudaSuccess;
    }
    if (!event->node) return cudaSuccess;
    if (s->capture) return spoil(s->capture, cudaErrorStreamCaptureIsolation);
    add(s, {event->node}, nullptr);
    return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data) {
    RUNTIME
    return put(stream, [=] { function(data); });
}

/* ---- Captured graphs ---- */

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode) {
    std::swap(*mode, thread_mode);
    return cudaSuccess;
}

static cudaError_t begin(CUstream_st *s, CUgraph_st *graph, cudaStreamCaptureMode mode) {
    static unsigned long long id;
    if (s == &default_stream) return fail(cudaErrorStreamCaptureUnsupported);
    if (s->capture) return fail(cudaErrorIllegalState);
    s->capture = std::make_shared<Capture>();
    *s->capture = {graph, mode, std::this_thread::get_id(), ++id, {s}};
    s->captured.clear();
    captures.push_back(s->capture);
    return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
    RUNTIME
    return begin(stream_of(stream), new CUgraph_st, mode);
}

/* Whether all that was captured is before the end of the stream that began the capture. */
static bool joined(const Capture &capture) {
    std::vector<NodeP> open = capture.streams[0]->captured; /* a node may be in it more than once */
    std::set<NodeP> reached;
    while (!open.empty()) {
        NodeP node = open.back();
        open.pop_back();
        if (reached.insert(node).second)
            open.insert(open.end(), node->before.begin(), node->before.end());
    }
    return reached.size() == capture.graph->nodes.size();
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    RUNTIME
    auto capture = stream_of(stream)->capture;
    *graph = nullptr;
    if (!capture) return fail(cudaErrorIllegalState);
    if (capture->streams[0] != stream_of(stream)) return spoil(capture, cudaErrorStreamCaptureUnmatched);
    if (capture->owner != std::this_thread::get_id() && capture->mode != cudaStreamCaptureModeRelaxed)
        return spoil(capture, cudaErrorStreamCaptureWrongThread);
    bool whole = joined(*capture);
    for (auto *s : capture->streams) s->capture = nullptr;
    for (auto *s : capture->streams) s->captured.clear();
    captures.erase(std::find(captures.begin(), captures.end(), capture));
    if (capture->broken) return fail(cudaErrorStreamCaptureInvalidated);
    if (!whole) return fail(cudaErrorStreamCaptureUnjoined);
    *graph = capture->graph;
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status) {
    Lock lock;
    auto &capture = stream_of(stream)->capture;
    *status = !capture          ? cudaStreamCaptureStatusNone
              : capture->broken ? cudaStreamCaptureStatusInvalidated
                                : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus *status,
                                     unsigned long long *id, cudaGraph_t *graph,
                                     const cudaGraphNode_t **nodes, const cudaGraphEdgeData **edges,
                                     size_t *count) {
    Lock lock;
    auto &capture = stream_of(stream)->capture;
    cudaStreamIsCapturing(stream, status);
    if (id) *id = capture ? capture->id : 0;
    if (graph) *graph = capture ? capture->graph : nullptr;
    static thread_local std::vector<cudaGraphNode_t> waited_for; /* it lives until the next call */
    waited_for.clear();
    for (auto &node : stream_of(stream)->captured) waited_for.push_back((cudaGraphNode_t)node.get());
    if (nodes) *nodes = waited_for.data();
    if (edges) *edges = nullptr; /* all of them are full dependencies */
    if (count) *count = waited_for.size();
    return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count) {
    if (nodes) return fail(cudaErrorNotSupported);
    *count = graph->nodes.size();
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *exec, cudaGraph_t graph,
                                          unsigned long long) {
    RUNTIME
    *exec = new CUgraphExec_st{graph->nodes};
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long f) {
    return cudaGraphInstantiateWithFlags(exec, graph, f);
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { delete graph; return cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    RUNTIME UNSAFE
    delete exec; /* what is still to be done of it has its nodes */
    return cudaSuccess;
}

/* Nodes that do not wait for each other are done in an order that is drawn anew each time. */
static void run_graph(std::vector<NodeP> open) {
    std::vector<NodeP> made;
    auto is_made = [&](const NodeP &n) { return std::find(made.begin(), made.end(), n) != made.end(); };
    while (!open.empty() && !broken) {
        std::vector<size_t> ready;
        for (size_t i = 0; i < open.size() && ready.size() < 8; i++)
            if (std::all_of(open[i]->before.begin(), open[i]->before.end(), is_made))
                ready.push_back(i);
        size_t chosen = ready[draw() % ready.size()];
        NodeP node = open[chosen];
        open.erase(open.begin() + (long)chosen);
        if (node->work) node->work();
        made.push_back(node);
    }
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    RUNTIME
    if (stream_of(stream)->capture) return fail(cudaErrorNotSupported);
    auto nodes = exec->nodes;
    auto calls = [](const NodeP &node) { return node->calls_python; };
    return put(stream, [=] { run_graph(nodes); }, std::any_of(nodes.begin(), nodes.end(), calls));
}

/* ---- The device ---- */

cudaError_t cudaGetDeviceCount(int *count) { *count = 1; return cudaSuccess; }
cudaError_t cudaGetDevice(int *device) { *device = 0; return cudaSuccess; }
cudaError_t cudaSetDevice(int device) {
    RUNTIME
    return device ? fail(cudaErrorInvalidDevice) : cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *version) { *version = CUDA_VERSION; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *version) { *version = CUDA_VERSION; return cudaSuccess; }
cudaError_t cudaDeviceCanAccessPeer(int *can, int, int) { *can = 0; return cudaSuccess; }
cudaError_t cudaDeviceGetPCIBusId(char *id, int size, int) {
    snprintf(id, (size_t)size, "0000:00:00.0");
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr what, int device) {
    return (cudaError_t)cuDeviceGetAttribute(value, (CUdevice_attribute)what, device);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int) {
    *p = {};
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    bool slice = visible && strncmp(visible, "MIG-", 4) == 0; /* NVIDIA names one like this */
    snprintf(p->name, sizeof(p->name), slice ? "Emulated GPU MIG 1g.10gb" : "Emulated GPU");
    p->major = 9;
    p->totalGlobalMem = all_memory;
    p->multiProcessorCount = 132;
    p->warpSize = 32;
    p->maxThreadsPerBlock = THREADS_OF_BLOCK;
    p->maxThreadsPerMultiProcessor = 2048;
    p->regsPerBlock = p->regsPerMultiprocessor = 65536;
    p->sharedMemPerBlock = 48 << 10;
    p->sharedMemPerBlockOptin = SHARED_OF_BLOCK;
    p->sharedMemPerMultiprocessor = SHARED_OF_BLOCK + 1024;
    p->l2CacheSize = 50 << 20;
    for (int i = 0; i < 3; i++) p->maxGridSize[i] = i ? 65535 : 2147483647;
    for (int i = 0; i < 3; i++) p->maxThreadsDim[i] = i < 2 ? 1024 : 64;
    return cudaSuccess;
}
cudaError_t cudaGetLastError(void) {
    cudaError_t error = last_error;
    last_error = broken;
    return error;
}
cudaError_t cudaPeekAtLastError(void) { return last_error; }

/* ---- Kernels of torch: Python does their work, or nobody does ---- */

void **__cudaRegisterFatBinary(void *) { static void *handle; return &handle; }
void __cudaRegisterFatBinaryEnd(void **) {}
void __cudaUnregisterFatBinary(void **) {}
void __cudaRegisterVar(void **, char *, char *, const char *, int, size_t, int, int) {}
void __cudaRegisterFunction(void **, const char *host, char *, const char *name, int, void *, void *,
                            void *, void *, int *) {
    kernels_of_torch[host] = name;
}

static struct { dim3 grid, block; size_t shared; cudaStream_t stream; } asked;
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream) {
    asked = {grid, block, shared, stream};
    return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
    *grid = asked.grid;
    *block = asked.block;
    *shared = asked.shared;
    *(cudaStream_t *)stream = asked.stream;
    return cudaSuccess;
}
cudaError_t cudaLaunchKernel(const void *kernel, dim3, dim3, void **, size_t, cudaStream_t) {
    RUNTIME
    break_down("torch launches " + kernels_of_torch[kernel]);
    return fail(broken);
}
cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *host) {
    *kernel = (cudaKernel_t)host;
    return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **arguments,
                               size_t shared, cudaStream_t stream) {
    return cudaLaunchKernel((const void *)kernel, grid, block, arguments, shared, stream);
}

/* Puts a function of Python's into a stream. */
int emulated_put(cudaStream_t stream, void (*work)(void)) {
    RUNTIME
    return put(stream, work, true);
}
}
