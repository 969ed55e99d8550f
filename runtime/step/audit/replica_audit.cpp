// SPDX-License-Identifier: Apache-2.0
#include "runtime/step/audit/replica_audit.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "kernels/chunk_hashes.h"
#include "runtime/state/element_text.h"

namespace lockstep {
namespace {

constexpr int64_t kWord = 8;              // bytes
constexpr int kMostRepairsOfOneStep = 2;  // what has to be mended again at once will not stay mended
constexpr double kHalf = 4294967296.0;    // 2^32: a sum of such halves of hashes, all but one of them 0, is exact

int64_t chunks_of_words(int64_t words) { return (words + kHashChunk - 1) / kHashChunk; }

// The copy that each rank has: of its node, or its own.
std::vector<int> copies_of_ranks(const Communicator& ranks, const Plan& plan) {
  std::vector<int> copies(ranks.node_of().begin(), ranks.node_of().end());
  if (plan.settings.copies == Copies::per_rank)
    for (size_t rank = 0; rank < copies.size(); ++rank) copies[rank] = int(rank);
  return copies;
}

}  // namespace

ReplicaAudit::ReplicaAudit(Communicator& ranks, VariableStore& variables, Pool& pool, Stream& stream)
    : ranks_(ranks),
      variables_(variables),
      stream_(stream),
      copy_of_(copies_of_ranks(ranks, variables.plan())),
      copies_(1 + *std::ranges::max_element(copy_of_)),
      parameter_words_(variables.memory().parameter_bytes() / kWord),
      words_(parameter_words_ + variables.memory().slot_bytes() / kWord),
      parameter_chunks_(chunks_of_words(parameter_words_)),
      chunks_(parameter_chunks_ + chunks_of_words(words_ - parameter_words_)) {
  const StateMemory& memory = variables.memory();
  check(
      memory.parameter_bytes() % kWord == 0 && memory.slot_bytes() % kWord == 0 && variables.plan().settings.zero == 0,
      ErrorCode::internal, "copies are compared word by word, and whole");
  check(copies_ > 1, ErrorCode::usage, [&] {
    return str("--audit replicas compares copies of weights and slots, of which there is one: ",
               ranks.size() == 1 ? "there is one rank" : "the ranks of one node share it",
               "; expected ranks on several nodes, or several GPUs; leave it out");
  });
  const Place& place = ranks.place();
  const bool shared = variables.plan().settings.copies == Copies::per_node;
  mine_ = shared ? part_of(chunks_, place.local_rank, place.local_size, 1) : Range{0, chunks_};
  sums_ = Buffer(pool, std::max<int64_t>(1, mine_.size()) * kWord, Purpose::scratch);
  fetched_ = PinnedBuffer(pool.device(), sums_.bytes());
}

void ReplicaAudit::enter(double* cells) {
  const StateSections& sections = variables_.memory().sections();
  const auto hash = [&](char* memory, int64_t words, int64_t first_chunk, int64_t chunks) {
    const int64_t begin = std::max(mine_.begin, first_chunk), end = std::min(mine_.end, first_chunk + chunks);
    if (begin >= end) return;
    const int64_t first = (begin - first_chunk) * kHashChunk;
    const int64_t count = std::min(words, (end - first_chunk) * kHashChunk) - first;
    const DeviceKind device = sections.device;
    launch(stream_, ChunkHashes{.sums = {static_cast<char*>(sums_.data()) + (begin - mine_.begin) * kWord, DType::i64,
                                         device, Shape{end - begin}},
                                .words = {memory + first * kWord, DType::i64, device, Shape{count}},
                                .first = first + first_chunk * kHashChunk});
  };
  hash(sections.parameters, parameter_words_, 0, parameter_chunks_);
  hash(sections.slots, words_ - parameter_words_, parameter_chunks_, chunks_ - parameter_chunks_);
  copy(stream_, fetched_.data(), sums_.data(), mine_.size() * kWord);
  stream_.synchronize();
  uint64_t sum = 0;
  for (int64_t c = 0; c < mine_.size(); ++c) sum += static_cast<const uint64_t*>(fetched_.data())[c];
  std::fill_n(cells, this->cells(), 0.0);
  cells[2 * ranks_.rank()] = double(sum >> 32);
  cells[2 * ranks_.rank() + 1] = double(sum & 0xffffffffu);
}

bool ReplicaAudit::are_equal(const double* cells) const {
  std::vector<uint64_t> hashes(static_cast<size_t>(copies_));
  for (int rank = 0; rank < ranks_.size(); ++rank)
    hashes[size_t(copy_of_[size_t(rank)])] +=
        uint64_t(cells[2 * rank]) * uint64_t(kHalf) + uint64_t(cells[2 * rank + 1]);
  return std::ranges::all_of(hashes, [&](uint64_t hash) { return hash == hashes[0]; });
}

ReplicaAudit::Piece ReplicaAudit::piece(int64_t chunk) const {
  const StateSections& sections = variables_.memory().sections();
  const bool parameters = chunk < parameter_chunks_;
  const int64_t first = (parameters ? chunk : chunk - parameter_chunks_) * kHashChunk;
  const int64_t words = parameters ? parameter_words_ : words_ - parameter_words_;
  return {(parameters ? sections.parameters : sections.slots) + first * kWord,
          std::min(kHashChunk, words - first) * kWord};
}

std::string ReplicaAudit::read(const Piece& piece) const {
  std::string content(size_t(piece.bytes), '\0');
  copy(stream_, content.data(), piece.memory, piece.bytes);
  stream_.synchronize();
  return content;
}

void ReplicaAudit::write(const Piece& piece, const std::string& content) const {
  copy(stream_, piece.memory, content.data(), piece.bytes);
  stream_.synchronize();
}

// By copy and chunk.
std::vector<std::vector<int64_t>> ReplicaAudit::hashes_of_copies() const {
  const std::vector<std::string> parts =
      ranks_.all_gather_bytes({static_cast<const char*>(fetched_.data()), size_t(mine_.size() * kWord)});
  std::vector<std::vector<int64_t>> hashes(static_cast<size_t>(copies_));
  for (size_t rank = 0; rank < parts.size(); ++rank) {
    std::vector<int64_t>& copy = hashes[size_t(copy_of_[rank])];
    const size_t before = copy.size();
    copy.resize(before + parts[rank].size() / size_t(kWord));
    std::memcpy(copy.data() + before, parts[rank].data(), parts[rank].size());
  }
  return hashes;
}

ReplicaAudit::Verdict ReplicaAudit::compare(int64_t chunk) const {
  const bool speaks = std::ranges::find(copy_of_, copy_of_[size_t(ranks_.rank())]) - copy_of_.begin() == ranks_.rank();
  const std::vector<std::string> all = ranks_.all_gather_bytes(speaks ? read(piece(chunk)) : std::string());
  Verdict verdict;
  for (int copy = 0; copy < copies_; ++copy)
    verdict.contents.push_back(all[size_t(std::ranges::find(copy_of_, copy) - copy_of_.begin())]);
  for (const std::string& content : verdict.contents)
    verdict.like.push_back(int(std::ranges::find(verdict.contents, content) - verdict.contents.begin()));
  for (int copy = 0; copy < copies_; ++copy)
    if (2 * std::ranges::count(verdict.like, copy) > copies_) verdict.most = copy;
  return verdict;
}

// "rank 2 (host)", "ranks 0, 1 and 3".
std::string ReplicaAudit::ranks_like(const Verdict& verdict, int copy) const {
  std::vector<int> ranks;
  for (int rank = 0; rank < ranks_.size(); ++rank)
    if (verdict.like[size_t(copy_of_[size_t(rank)])] == copy) ranks.push_back(rank);
  if (ranks.size() == 1) return ranks_.describe(ranks[0]);
  std::string text = "ranks ";
  for (size_t i = 0; i < ranks.size(); ++i) text += str(i == 0 ? "" : i + 1 == ranks.size() ? " and " : ", ", ranks[i]);
  return text;
}

std::string ReplicaAudit::describe(int64_t chunk, const Verdict& verdict, std::string& name) const {
  if (std::ranges::all_of(verdict.like, [](int like) { return like == 0; }))
    return str("piece ", chunk, " was read otherwise a moment ago, and the copies hold the same now");
  int64_t byte = std::ssize(verdict.contents[0]);
  for (const std::string& content : verdict.contents)
    byte = std::min(byte, std::ranges::mismatch(content, verdict.contents[0]).in1 - content.begin());
  const char* const address = piece(chunk).memory + byte;
  std::string text;
  const auto values = [&](const auto& value_of) {
    const std::set<int> different(verdict.like.begin(), verdict.like.end());
    for (const int copy : different)
      text += str(copy == *different.begin() ? " is " : ", and ", value_of(verdict.contents[size_t(copy)]), " on ",
                  ranks_like(verdict, copy));
  };
  for (const PlannedVariable& variable : variables_.plan().variables) {
    const View view = variables_.memory().view(variable);
    const char* const begin = static_cast<const char*>(view.data);
    if (variable.section == Section::local || address < begin || address >= begin + variable.local_bytes()) continue;
    const int64_t element = (address - begin) / size_of(view.dtype);
    const int64_t at = begin + element * size_of(view.dtype) - piece(chunk).memory;
    name = variable.path;
    text = str("element ", place_text(element, variable.shape.sizes()), " of ", variable.path);
    values([&](const std::string& content) { return hex_float(element_value(content.data() + at, view.dtype, 0)); });
    return text;
  }
  text = str("a byte behind a variable");
  values([&](const std::string& content) { return str(int(static_cast<unsigned char>(content[size_t(byte)]))); });
  return text;
}

ReplicaRepair ReplicaAudit::repair(int64_t step) {
  repairs_of_step_ = repaired_step_ == step ? repairs_of_step_ + 1 : 1;
  repaired_step_ = step;
  const std::vector<std::vector<int64_t>> hashes = hashes_of_copies();
  const int own = copy_of_[size_t(ranks_.rank())];
  const bool writes = std::ranges::find(copy_of_, own) - copy_of_.begin() == ranks_.rank();
  ReplicaRepair repair{.step = step, .what = {}, .variable = {}};
  std::set<int> wrong;
  for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
    if (std::ranges::all_of(hashes, [&](const auto& copy) { return copy[size_t(chunk)] == hashes[0][size_t(chunk)]; }))
      continue;
    const Verdict verdict = compare(chunk);
    if (repair.pieces++ == 0) repair.what = describe(chunk, verdict, repair.variable);
    const auto refuse = [&](const std::string& why) {
      fail(ErrorCode::numbers, str("copies of weights and slots differ before the update of step ", step,
                                   ", so nothing is updated: ", repair.what, "; ", why));
    };
    if (verdict.most < 0)
      refuse(str("none of these values is held by more than half of the ", copies_,
                 " copies, so nobody knows which is right; go on from the last checkpoint, and look at the machines"));
    if (repairs_of_step_ > kMostRepairsOfOneStep)
      refuse(str("it was mended ", kMostRepairsOfOneStep,
                 " times and differs again; take that machine out, and go on from the last checkpoint"));
    for (int copy = 0; copy < copies_; ++copy)
      if (hashes[size_t(copy)][size_t(chunk)] != hashes[size_t(verdict.most)][size_t(chunk)]) wrong.insert(copy);
    if (writes && verdict.like[size_t(own)] != verdict.most)
      write(piece(chunk), verdict.contents[size_t(verdict.most)]);
  }
  ranks_.barrier();  // ranks that share a copy read it next
  repair.rank = int(std::ranges::find(copy_of_, *wrong.begin()) - copy_of_.begin());
  repair.what = str("copies of weights and slots differed before the update of step ", step, ": ", repair.what, "; ",
                    repair.pieces, " of ", chunks_, " pieces of ", kHashChunk * kWord, " bytes differed");
  return repair;
}

}  // namespace lockstep
