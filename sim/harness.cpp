// SPDX-License-Identifier: Apache-2.0
// Bulk runner: streams binary files through the valid/ready ports of one design.
//
// The ports come as macros in front of this file: TOP_CLOCK, TOP_RESET, TOP_RESET_ON and
// TOP_PORTS(INPUT, OUTPUT, LAST, USER), where INPUT and OUTPUT take (valid, ready, payload, bytes)
// and LAST and USER, which follow the port they belong to, take (last) and (user). Reads "job" (one line of settings, then
// words and words per frame of each port), "<port number>.in" and "<port number>.user", a byte a
// word; writes "<port number>.out",
// "<port number>.cycles" (64 bits for the last transfer of each frame) and "result".

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "Vtop.h"
#include "verilated.h"

namespace {

struct Port {
    bool input;
    CData* valid;
    CData* ready;
    void* payload;
    size_t bytes;
    CData* last = nullptr;
    CData* user = nullptr;
    int64_t words = 0, frame = 1, moved = 0, in_frame = 0, first = -1, misplaced = 0;
    bool waiting = false;
    uint64_t chance = 0, random = 0;
    std::vector<uint8_t> data, held, beside;
    std::vector<int64_t> cycles;

    bool draw() {  // xorshift64*
        if (chance >> 32) return true;
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        return (random * 2685821657736338717ULL) >> 32 < chance;
    }
    void count(int64_t cycle) {
        if (!moved++) first = cycle;
        if (++in_frame == frame) {
            in_frame = 0;
            cycles.push_back(cycle);
        }
    }
};

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "%s\n", what);
    std::exit(2);
}

void read_file(const std::string& name, std::vector<uint8_t>& data) {
    FILE* file = std::fopen(name.c_str(), "rb");
    if (!file || std::fread(data.data(), 1, data.size(), file) != data.size()) fail("cannot read");
    std::fclose(file);
}

void write_file(const std::string& name, const void* data, size_t size) {
    FILE* file = std::fopen(name.c_str(), "wb");
    if (!file || std::fwrite(data, 1, size, file) != size || std::fclose(file)) fail("cannot write");
}

}  // namespace

int main(int argc, char** argv) {
    VerilatedContext context;
    context.commandArgs(argc, argv);
    Vtop top{&context};
    std::vector<Port> ports;
#define INPUT(valid, ready, payload, bytes) \
    ports.push_back(Port{true, &top.valid, &top.ready, &top.payload, bytes});
#define OUTPUT(valid, ready, payload, bytes) \
    ports.push_back(Port{false, &top.valid, &top.ready, &top.payload, bytes});
#define LAST(name) ports.back().last = &top.name;
#define USER(name) ports.back().user = &top.name;
    TOP_PORTS(INPUT, OUTPUT, LAST, USER)

    int64_t limit, patience, drain;
    uint64_t seed, offer, accept;
    FILE* job = std::fopen("job", "r");
    if (!job
        || std::fscanf(job, "%" SCNd64 "%" SCNd64 "%" SCNd64 "%" SCNu64 "%" SCNu64 "%" SCNu64, &limit,
                       &patience, &drain, &seed, &offer, &accept)
               != 6)
        fail("job cannot be read");
    int64_t left = 0;
    for (size_t k = 0; k < ports.size(); ++k) {
        Port& port = ports[k];
        if (std::fscanf(job, "%" SCNd64 "%" SCNd64, &port.words, &port.frame) != 2)
            fail("job cannot be read");
        left += port.words;
        port.chance = port.input ? offer : accept;
        port.random = (seed * 64 + k + 1) * 0x9E3779B97F4A7C15ULL | 1;
        port.data.resize(port.words * port.bytes);
        if (port.input) read_file(std::to_string(k) + ".in", port.data);
        else port.held.resize(port.bytes);
        if (port.user) {
            port.beside.resize(port.words);
            read_file(std::to_string(k) + ".user", port.beside);
        }
    }
    std::fclose(job);

    for (Port& port : ports) *(port.input ? port.valid : port.ready) = 0;
    top.TOP_RESET = TOP_RESET_ON;
    for (int k = 0; k < 2; ++k) {
        top.TOP_CLOCK = 0;
        top.eval();
        top.TOP_CLOCK = 1;
        top.eval();
    }
    top.TOP_RESET = !TOP_RESET_ON;

    std::string problem;
    int64_t cycle = 0, moved_at = 0, quiet = 0;
    for (; quiet <= drain && problem.empty(); ++cycle) {
        if (cycle == limit) problem = "the cycle limit is reached";
        for (Port& port : ports) {
            if (!port.input) {
                *port.ready = port.draw();
            } else if (!*port.valid && port.moved < port.words && port.draw()) {
                *port.valid = 1;
                std::memcpy(port.payload, &port.data[port.moved * port.bytes], port.bytes);
                if (port.last) *port.last = port.in_frame + 1 == port.frame;
                if (port.user) *port.user = port.beside[port.moved];
            }
        }
        top.TOP_CLOCK = 0;
        top.eval();
        for (Port& port : ports) {
            const bool moves = *port.valid && *port.ready;
            if (port.input) {
                port.waiting = moves;  // withdrawn after the clock edge
            } else {
                if (port.waiting && !*port.valid) problem = "valid was withdrawn before ready came";
                if (*port.valid && port.waiting && std::memcmp(&port.held[0], port.payload, port.bytes))
                    problem = "the payload changed before ready came";
                port.waiting = *port.valid && !moves;
                if (port.waiting) std::memcpy(&port.held[0], port.payload, port.bytes);
                if (moves && port.moved == port.words) {
                    problem = "there are more words than expected";
                } else if (moves) {
                    std::memcpy(&port.data[port.moved * port.bytes], port.payload, port.bytes);
                    if (port.last) port.misplaced += *port.last != (port.in_frame + 1 == port.frame);
                }
            }
            if (moves) {
                port.count(cycle);
                moved_at = cycle;
                --left;
            }
        }
        if (cycle - moved_at > patience && left > 0) problem = "nothing moves any more";
        top.TOP_CLOCK = 1;
        top.eval();
        for (Port& port : ports)
            if (port.input && port.waiting) *port.valid = 0;
        quiet = left > 0 ? 0 : quiet + 1;
    }
    top.final();

    FILE* result = std::fopen("result", "w");
    if (!result) fail("cannot write");
    std::fprintf(result, "%s\n%" PRId64 "\n", problem.c_str(), moved_at + 1);
    for (size_t k = 0; k < ports.size(); ++k) {
        const Port& port = ports[k];
        const std::string name = std::to_string(k);
        std::fprintf(result, "%" PRId64 " %" PRId64 " %" PRId64 "\n", port.moved, port.first,
                     port.misplaced);
        write_file(name + ".cycles", port.cycles.data(), port.cycles.size() * sizeof(int64_t));
        if (!port.input) write_file(name + ".out", port.data.data(), port.data.size());
    }
    std::fprintf(result, "done\n");
    return std::fclose(result);
}
