// What CUDA gives a kernel, for one thread of a CPU: threadIdx and its kin, __shared__, block
// barriers, warp barriers and shuffles. A launch runs block after block. The threads of a block
// run one after another; one that waits at a barrier keeps its stack (a fiber), and another fiber
// goes on. A barrier that some threads of a block wait at while others never come is an error, and
// so are threads that meet one place of memory with no barrier between them (races.hpp).
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <tuple>
#include <typeinfo>
#include <utility>
#include <vector>

#include "races.hpp"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#define EXPORTED extern "C" __attribute__((visibility("default")))
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__
#define __restrict__
#define __shared__ static
#define __constant__ static
#define __launch_bounds__(...)

using std::exp;  // of a float they are a float's, as in CUDA
using std::log;
using std::sqrt;
using std::tanh;

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};

static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
static constexpr int warpSize = 32;

namespace emulation {

constexpr std::size_t STACK = 256 * 1024;

enum class State { idle, running, block, warp };

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[STACK]};
    unsigned thread = 0;
    State state = State::idle;
    unsigned mask = 0;  // the lanes that a warp barrier waits for
    void* fake = nullptr;  // what the address sanitizer keeps of a stack that rests
};

static std::vector<std::unique_ptr<Fiber>> fibers;
static Fiber* current;
static ucontext_t scheduler;
[[maybe_unused]] static void* scheduler_fake;
[[maybe_unused]] static const void* scheduler_bottom;
[[maybe_unused]] static std::size_t scheduler_size;
static void (*body)(void**);
static void** arguments;
static unsigned next, total, finished;
static bool apart;  // a copy at an address that is no multiple of its size
static bool masked;  // a thread took part in what its mask leaves it, or its source, out of
static std::vector<unsigned char> ended;
static std::vector<std::vector<unsigned char>> slots;  // a value of each thread, for shuffles

struct Words {  // of matrix units
    unsigned a[4], b[2];
};
static std::vector<Words> words[2];  // of each thread, for one product and for the next
static std::vector<unsigned> products;  // that each thread has come to

struct Copy {  // of shared memory
    unsigned* to;
    const unsigned* from;
    int words;
    bool there;
};
static std::vector<std::vector<std::vector<Copy>>> copies;  // of each thread, group by group

inline void switch_to_scheduler() {
    Fiber* me = current;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&me->fake, scheduler_bottom, scheduler_size);
#endif
    swapcontext(&me->context, &scheduler);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(me->fake, &scheduler_bottom, &scheduler_size);
#endif
}

inline void take_place(unsigned thread) {
    threadIdx = {thread % blockDim.x, thread / blockDim.x % blockDim.y,
                 thread / (blockDim.x * blockDim.y)};
}

inline void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_bottom, &scheduler_size);
#endif
    for (;;) {
        while (next < total) {
            current->thread = next++;
            take_place(current->thread);
            races::follow(current->thread, current->stack.get(), STACK);
            body(arguments);
            races::rest();
            ended[current->thread] = 1;
            ++finished;
        }
        current->state = State::idle;
        switch_to_scheduler();
    }
}

inline void resume(Fiber& fiber) {
    current = &fiber;
    fiber.state = State::running;
    take_place(fiber.thread);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&scheduler_fake, fiber.stack.get(), STACK);
#endif
    swapcontext(&scheduler, &fiber.context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(scheduler_fake, nullptr, nullptr);
#endif
}

inline Fiber& idle_fiber() {
    for (auto& fiber : fibers)
        if (fiber->state == State::idle) return *fiber;
    fibers.push_back(std::make_unique<Fiber>());
    Fiber& fiber = *fibers.back();
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, fiber_main, 0);
    return fiber;
}

// Fibers that wait at a barrier which all that live have reached.
inline std::vector<Fiber*> released() {
    std::vector<Fiber*> ready;
    std::vector<unsigned> living((total + 31) / 32), waiting(living.size());
    unsigned at_block = 0;
    for (unsigned thread = 0; thread < total; ++thread)
        if (!ended[thread]) living[thread / 32] |= 1u << thread % 32;
    for (auto& fiber : fibers) {
        at_block += fiber->state == State::block;
        if (fiber->state == State::warp) waiting[fiber->thread / 32] |= 1u << fiber->thread % 32;
    }
    for (auto& fiber : fibers) {
        unsigned warp = fiber->thread / 32;
        if ((fiber->state == State::block && at_block == total - finished) ||
            (fiber->state == State::warp && !(living[warp] & fiber->mask & ~waiting[warp])))
            ready.push_back(fiber.get());
    }
    return ready;
}

inline bool run_block() {
    next = finished = 0;
    ended.assign(total, 0);
    while (finished < total) {
        if (next < total) {
            resume(idle_fiber());
            continue;
        }
        std::vector<Fiber*> ready = released();
        if (ready.empty()) return false;
        if (ready.front()->state == State::block) races::block_meets();
        for (Fiber* fiber : ready)
            if (fiber->state == State::warp) races::warp_meets(fiber->thread / 32);
        for (Fiber* fiber : ready) resume(*fiber);
    }
    return true;
}

inline void wait(State where, unsigned mask = 0xffffffffu) {
    races::rest();
    current->state = where;
    current->mask = mask;
    if (!(mask >> current->thread % 32 & 1)) masked = true;
    switch_to_scheduler();
    races::follow(current->thread, current->stack.get(), STACK);
}

template <typename T>
T exchange(unsigned mask, T value, unsigned from_lane) {
    races::rest();
    unsigned thread = current->thread, from = thread / 32 * 32 + from_lane;
    if (!(mask >> from_lane & 1)) masked = true;
    slots[thread].resize(sizeof(T));
    std::memcpy(slots[thread].data(), &value, sizeof(T));
    wait(State::warp, mask);
    races::rest();
    T found = value;
    if (from < total && !ended[from] && slots[from].size() == sizeof(T))
        std::memcpy(&found, slots[from].data(), sizeof(T));
    wait(State::warp, mask);
    return found;
}

template <typename... A, std::size_t... I>
void call(void (*kernel)(A...), void** args, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_cv_t<A>*>(args[I])...);
}

// `shape`: grid, block, and the first and the last block that run, three numbers each.
// Returns 0; 1 where threads wait for others that never come; 2 where a mask names other lanes
// than those that take part; 3 where threads race; 4 where a copy or an access is out
// of line.
template <auto kernel, typename... A>
int launch(void (*)(A...), const unsigned* shape, void** args) {
    gridDim = {shape[0], shape[1], shape[2]};
    blockDim = {shape[3], shape[4], shape[5]};
    total = blockDim.x * blockDim.y * blockDim.z;
    masked = apart = false;
    races::launched();
    slots.assign(total, {});
    arguments = args;
    body = [](void** all) { call(kernel, all, std::index_sequence_for<A...>{}); };
    const unsigned *first = shape + 6, *last = shape + 9;
    for (unsigned z = first[2]; z <= last[2]; ++z)
        for (unsigned y = first[1]; y <= last[1]; ++y)
            for (unsigned x = first[0]; x <= last[0]; ++x) {
                blockIdx = {x, y, z};
                races::block_starts();
                const unsigned lanes = (total + 31) / 32 * 32;
                words[0].resize(lanes), words[1].resize(lanes);
                products.assign(lanes, 0), copies.assign(total, {});
                if (!run_block()) {
                    fibers.clear();
                    return 1;
                }
            }
    fibers.clear();
    return masked ? 2 : apart || races::apart() ? 4 : races::found() ? 3 : 0;
}

// The types of a kernel's parameters, mangled, with a space after each.
template <typename... A>
const char* parameters(void (*)(A...)) {
    static const std::string text = ((std::string(typeid(A).name()) + " ") + ... + std::string());
    return text.c_str();
}

}  // namespace emulation

// Copies to shared memory that go on while others compute: they are made as late as CUDA allows,
// when their thread waits for them.
namespace emulation {

inline std::vector<std::vector<Copy>>& own_copies() {
    auto& own = copies[current->thread];
    if (own.empty()) own.emplace_back();
    return own;
}

}  // namespace emulation

template <int WORDS>
void copy_words(unsigned* to, const unsigned* from, bool there) {
    races::rest();
    for (const unsigned* at : {static_cast<const unsigned*>(to), from})
        if (reinterpret_cast<std::size_t>(at) % (4 * WORDS)) emulation::apart = true;
    emulation::own_copies().back().push_back({to, from, WORDS, there});
    races::follow(emulation::current->thread, emulation::current->stack.get(), emulation::STACK);
}
inline void close_group() {
    races::rest();
    emulation::own_copies().emplace_back();
    races::follow(emulation::current->thread, emulation::current->stack.get(), emulation::STACK);
}
template <int GROUPS>
void copied() {
    races::rest();
    auto& own = emulation::own_copies();
    std::vector<emulation::Copy> done;
    while (own.size() > GROUPS + 1) {  // the last one is open
        done.insert(done.end(), own.front().begin(), own.front().end());
        own.erase(own.begin());
    }
    const std::size_t count = done.size();
    const emulation::Copy* all = done.data();
    for (std::size_t i = 0; i < count; ++i) {
        const emulation::Copy one = all[i];
        races::follow(emulation::current->thread, emulation::current->stack.get(), emulation::STACK);
        for (int word = 0; word < one.words; ++word) one.to[word] = one.there ? one.from[word] : 0;
        races::rest();
    }
    races::follow(emulation::current->thread, emulation::current->stack.get(), emulation::STACK);
}

// Products of matrix units, by the lanes of a warp together: `matrix_units.cu` says who has what.
#define EMULATION

namespace emulation {

// All lanes' words; those of the product before may still be read meanwhile.
inline const Words* of_warp(const unsigned (&a)[4], const unsigned (&b)[2]) {
    races::rest();
    const unsigned thread = current->thread, first = thread / 32 * 32;
    const unsigned number = ++products[thread], now = number % 2;
    words[now][thread] = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    wait(State::warp);
    races::rest();
    for (unsigned lane = 0; lane < 32; ++lane)
        if (products[first + lane] < number) masked = true;  // one that is not there, or elsewhere
    return &words[now][first];
}

// d (16 x 8) += a (16 x 8 words) b (8 words x 8); `numbers` gives the numbers of a word.
template <int PACK, typename Numbers>
void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], Numbers numbers) {
    const Words* all = of_warp(a, b);
    const unsigned lane = current->thread % 32;
    for (unsigned e = 0; e < 4; ++e) {
        const unsigned row = lane / 4 + e / 2 * 8, column = lane % 4 * 2 + e % 2;
        for (unsigned k = 0; k < 8; ++k) {
            const unsigned of_a = all[row % 8 * 4 + k % 4].a[row / 8 + k / 4 * 2];
            const unsigned of_b = all[column * 4 + k % 4].b[k / 4];
            for (int part = 0; part < PACK; ++part)
                d[e] += numbers(of_a, part) * numbers(of_b, part);
        }
    }
    races::follow(current->thread, current->stack.get(), STACK);
}

}  // namespace emulation

inline unsigned __float_as_uint(float a) {
    unsigned bits;
    std::memcpy(&bits, &a, 4);
    return bits;
}
inline float __uint_as_float(unsigned bits) {
    float a;
    std::memcpy(&a, &bits, 4);
    return a;
}
// The units do not see the last bits of a word, rounded or not.
inline void multiply_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    emulation::multiply<1>(
        d, a, b, [](unsigned word, int) { return __uint_as_float(word & 0xffffe000u); });
}
inline void multiply_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    emulation::multiply<2>(d, a, b, [](unsigned word, int part) {
        return __uint_as_float(part ? word & 0xffff0000u : word << 16);
    });
}

inline void __syncthreads() { emulation::wait(emulation::State::block); }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
    emulation::wait(emulation::State::warp, mask);
}

inline unsigned emulation_lane() { return emulation::current->thread % 32; }
template <typename T>
T __shfl_sync(unsigned mask, T value, int lane) {
    return emulation::exchange(mask, value, unsigned(lane) % 32);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned step) {
    unsigned lane = emulation_lane();
    return emulation::exchange(mask, value, lane + step < 32 ? lane + step : lane);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, unsigned with) {
    return emulation::exchange(mask, value, emulation_lane() ^ (with % 32));
}
