// SEAL's index: sdsl's csa_wt_int over the reversed text. Times its build and the next tokens of given n-grams.
//
//     substring_sdsl TOKENS NGRAMS RANGES
//
// TOKENS: int32 of the whole text, reversed, shifted so that 0 is free. NGRAMS: int32, each its length and its tokens,
// shifted. Prints "build SECONDS", "bytes COUNT", then for each turn asked for on standard input ("LENGTH") a line
// "LENGTH QUERIES SYMBOLS SECONDS" in processor time, and ends with the input. RANGES is unused room for a dump.
#include <sdsl/suffix_arrays.hpp>
#include <ctime>
#include <fstream>
#include <iostream>
#include <map>
#include <string>
#include <vector>

static std::vector<int32_t> read(const char* path) {
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    std::vector<int32_t> values(file.tellg() / sizeof(int32_t));
    file.seekg(0);
    file.read(reinterpret_cast<char*>(values.data()), values.size() * sizeof(int32_t));
    return values;
}

static double now() {
    timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return time.tv_sec + 1e-9 * time.tv_nsec;
}

int main(int, char** arguments) {
    auto tokens = read(arguments[1]);
    auto flat = read(arguments[2]);
    sdsl::csa_wt_int<> index;
    double began = now();
    {
        sdsl::int_vector<> text(tokens.size(), 0, 32);
        for (size_t i = 0; i < tokens.size(); ++i) text[i] = tokens[i];
        sdsl::util::bit_compress(text);
        sdsl::construct_im(index, text, 0);
    }
    std::cout << "build " << now() - began << "\nbytes " << sdsl::size_in_bytes(index) << std::endl;
    std::map<int, std::vector<std::pair<uint64_t, uint64_t>>> ranges;
    for (size_t i = 0; i < flat.size(); i += flat[i] + 1) {
        uint64_t lo = 0, hi = index.size() - 1;
        for (int j = 1; j <= flat[i]; ++j) sdsl::backward_search(index, lo, hi, (uint64_t)flat[i + j], lo, hi);
        ranges[flat[i]].push_back({lo, hi + 1});
    }
    std::vector<uint64_t> symbols(index.sigma), before(index.sigma), until(index.sigma);
    int length;
    while (std::cin >> length) {
        uint64_t found = 0, k = 0;
        began = now();
        for (auto& range : ranges[length]) {
            index.wavelet_tree.interval_symbols(range.first, range.second, k, symbols, before, until);
            found += k;
        }
        std::cout << length << ' ' << ranges[length].size() << ' ' << found << ' ' << now() - began << std::endl;
    }
}
