// SPDX-License-Identifier: Apache-2.0
// Which GPU a rank takes and what carries its collectives: every rank looks at what all have and decides alike.
#include <algorithm>
#include <fstream>
#include <iomanip>
#include <map>
#include <sstream>

#include "collectives/device/device_transports.h"
#include "kernels/device/gpu_report.h"

namespace lockstep {

namespace {

// What one rank sees.
struct Seat {
  std::string machine;  // tells machines with equal names apart
  std::string host;
  int gpus = 0;
  std::string detail;  // the GPUs' names, or why there are none
  int index = -1;      // the GPU that this rank takes
  std::string name, bus_id;
};

// Containers of one machine have names of their own and may see the same GPUs; the id of the machine's last start is
// the same in all of them.
std::string machine_name(const std::string& host) {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  return std::getline(file, id) ? id : host;
}

// Returns the fields of all ranks, by rank.
std::vector<std::vector<std::string>> gather(Communicator& ranks, const std::vector<std::string>& mine) {
  std::string joined;
  for (const std::string& field : mine) joined += field + '\0';
  std::vector<std::vector<std::string>> all;
  for (const std::string& text : ranks.all_gather_bytes(joined)) {
    std::vector<std::string>& fields = all.emplace_back();
    std::istringstream in(text);
    for (std::string field; std::getline(in, field, '\0');) fields.push_back(field);
  }
  return all;
}

// The number of a rank among those that run under the same name on the same machine. Nodes may be pretended parts of a
// machine, which do not cut its GPUs.
int number_on_machine(const std::vector<Seat>& seats, int rank) {
  const Seat& mine = seats[size_t(rank)];
  return int(std::count_if(seats.begin(), seats.begin() + rank, [&](const Seat& other) {
    return other.machine == mine.machine && other.host == mine.host;
  }));
}

std::vector<Seat> find_seats(Communicator& ranks, const CudaDevices& found) {
  const std::string& host = ranks.place().host;
  std::vector<Seat> seats;
  for (const auto& fields : gather(ranks, {machine_name(host), host, std::to_string(found.count()), found.detail}))
    seats.push_back({fields[0], fields[1], std::stoi(fields[2]), fields[3], -1, "", ""});
  Seat& mine = seats[size_t(ranks.rank())];
  if (mine.gpus > 0) mine.index = number_on_machine(seats, ranks.rank()) % mine.gpus;
  const CudaDevice taken = mine.index >= 0 ? found.devices[size_t(mine.index)] : CudaDevice{};
  const auto all = gather(ranks, {std::to_string(mine.index), taken.name, taken.bus_id});
  for (size_t rank = 0; rank < all.size(); ++rank) {
    seats[rank].index = std::stoi(all[rank][0]);
    seats[rank].name = all[rank][1];
    seats[rank].bus_id = all[rank][2];
  }
  return seats;
}

// One line per rank: its host and the GPU it would take.
std::string table(const std::vector<Seat>& seats) {
  size_t host = 4, name = 3;
  for (const Seat& seat : seats) {
    host = std::max(host, seat.host.size());
    name = std::max(name, seat.name.size());
  }
  std::ostringstream out;
  out << std::left;
  const auto line = [&](const auto& rank, const std::string& a, const std::string& b, const std::string& c) {
    out << "\n  " << std::setw(6) << rank << std::setw(int(host) + 2) << a << std::setw(int(name) + 2) << b << c;
  };
  line("rank", "host", "GPU", "bus id");
  for (size_t rank = 0; rank < seats.size(); ++rank) line(rank, seats[rank].host, seats[rank].name, seats[rank].bus_id);
  return out.str();
}

void check_everyone_has_one(const Communicator& ranks, const std::vector<Seat>& seats) {
  std::string without;
  for (int rank = 0; rank < ranks.size(); ++rank)
    if (seats[size_t(rank)].gpus == 0) without += str(without.empty() ? "" : ", ", ranks.describe(rank));
  if (without.empty()) return;
  const auto first = std::ranges::find(seats, 0, &Seat::gpus);
  fail(ErrorCode::device,
       str("no GPU for ", without, ": ", first->detail, "; use --device cpu, or ranks where GPUs are"));
}

void check_nobody_shares(const std::vector<Seat>& seats) {
  std::map<std::pair<std::string, std::string>, int> owners;  // key: (machine, bus id)
  for (int rank = 0; rank < int(seats.size()); ++rank) {
    const Seat& seat = seats[size_t(rank)];
    const auto [owner, is_free] = owners.try_emplace({seat.machine, seat.bus_id}, rank);
    if (is_free) continue;
    if (GpuReport::is_gpu_instance(seat.name))
      fail(ErrorCode::launch, str("ranks ", owner->second, " and ", rank, " have parts of one GPU (MIG), and NCCL ",
                                  "connects no parts of one GPU; start one rank per GPU, switch MIG off, or let ranks ",
                                  "exchange gradients by --transport staged", table(seats)));
    const auto on_machine = std::ranges::count(seats, seat.machine, &Seat::machine);
    fail(ErrorCode::launch,
         str("ranks ", owner->second, " and ", rank, " would share one GPU: ", seat.host, " has ", on_machine,
             " ranks, and rank ", rank, " sees ", seat.gpus, seat.gpus == 1 ? " GPU" : " GPUs",
             "; start one rank per GPU, let each rank see one of its own (CUDA_VISIBLE_DEVICES), or let ranks share by "
             "--transport staged",
             table(seats)));
  }
}

// NCCL if every rank has the same version of it; null if some rank has none, with the reason.
struct NcclOfAll {
  std::shared_ptr<const NcclLibrary> library;
  std::string problem;
};

NcclOfAll load_nccl_on_all(Communicator& ranks) {
  NcclOfAll found;
  std::string mine = "+";
  try {
    found.library = load_nccl();
    mine += describe(*found.library);
  } catch (const Error& error) {
    mine = str("-", error.what());
  }
  const std::vector<std::string> all = ranks.all_gather_bytes(mine);
  const auto version = [](const std::string& text) { return text.substr(0, text.find('(')); };
  for (int rank = 0; rank < ranks.size(); ++rank) {
    const std::string& theirs = all[size_t(rank)];
    if (theirs[0] == '-') {
      found.problem = str(ranks.describe(rank), ": ", theirs.substr(1));
    } else if (version(theirs) != version(all[0])) {
      found.problem = str("the ranks have different versions of NCCL: rank 0 ", all[0].substr(1), ", rank ", rank, " ",
                          theirs.substr(1), "; install one version, or use --transport staged");
    }
    if (!found.problem.empty()) break;
  }
  return found;
}

}  // namespace

DeviceTransport parse_device_transport(std::string_view name) {
  if (name == "auto") return DeviceTransport::automatic;
  if (name == "nccl") return DeviceTransport::nccl;
  if (name == "staged") return DeviceTransport::staged;
  fail(ErrorCode::usage, str("--transport: expected auto, nccl or staged, got '", name, "'"));
}

Device choose_device(Communicator& ranks, DeviceTransport transport) {
  const std::vector<Seat> seats = find_seats(ranks, find_cuda_devices());
  check_everyone_has_one(ranks, seats);
  if (transport != DeviceTransport::staged) check_nobody_shares(seats);
  return {DeviceKind::cuda, seats[size_t(ranks.rank())].index};
}

std::unique_ptr<DeviceCommunicator> make_device_communicator(Communicator& ranks, Device device,
                                                             DeviceTransport transport) {
  // One rank has nobody to reach, so it needs none of what NCCL takes: seconds, memory, a network interface.
  const bool alone = ranks.size() == 1 && transport == DeviceTransport::automatic;
  if (transport == DeviceTransport::staged || alone) return make_staged_communicator(ranks, device);
  NcclOfAll nccl = load_nccl_on_all(ranks);
  if (!nccl.problem.empty()) {
    check(transport == DeviceTransport::automatic, ErrorCode::device, nccl.problem);
    return make_staged_communicator(ranks, device);
  }
  NcclAttempt attempt = connect_by_nccl(ranks, device, std::move(nccl.library));
  if (attempt.communicator) return std::move(attempt.communicator);
  check(transport == DeviceTransport::automatic, ErrorCode::collective, attempt.problem);
  auto staged = make_staged_communicator(ranks, device);
  staged->set_remark(str("gradients go through memory of the host, as with --transport staged: ", attempt.problem));
  return staged;
}

std::string describe_nccl() {
  try {
    return describe(*load_nccl());
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace lockstep
