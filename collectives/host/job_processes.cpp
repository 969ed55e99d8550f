// SPDX-License-Identifier: Apache-2.0
#include "collectives/host/job_processes.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <sstream>
#include <vector>

#include "collectives/bootstrap.h"

namespace lockstep {
namespace {

using Environment = std::map<std::string, std::string>;
using Variable = std::function<const char*(const char*)>;

struct Process {
  int id = 0;
  int parent = 0;
  int session = 0;
  char state = '?';     // T is stopped, Z has ended
  std::string program;  // the name of its file, cut by the system
};

std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::optional<Process> find_process(int id) {
  const std::string text = contents(str("/proc/", id, "/stat"));  // "12 (name) S 11 ..."; a name may hold brackets
  const size_t open = text.find('('), close = text.rfind(") ");
  if (open == std::string::npos || close == std::string::npos || close + 4 >= text.size()) return std::nullopt;
  Process process{.id = id,
                  .parent = 0,
                  .session = 0,
                  .state = text[close + 2],
                  .program = text.substr(open + 1, close - open - 1)};
  std::istringstream numbers(text.substr(close + 4));
  int group = 0;
  numbers >> process.parent >> group >> process.session;
  return process;
}

bool has_ended(char state) { return state == 'Z' || state == 'X'; }
bool is_stopped(char state) { return state == 'T' || state == 't'; }

// Tells jobs apart that run on this machine at the same time: by their launcher's name for them, by the process that
// has started their ranks, or by the session of the system that these are in.
std::string job_of(const Variable& variable, int session) {
  if (const char* name = variable("PMIX_NAMESPACE")) return name;
  const char *job = variable("SLURM_JOB_ID"), *step = variable("SLURM_STEP_ID");
  if (job && step) return str("slurm ", job, ".", step);
  // MPICH's launcher gives each rank a session of its own, and the job no name.
  if (variable("PMI_FD"))
    if (const std::optional<Process> leader = find_process(session)) return str("ranks of process ", leader->parent);
  return str("session ", session);
}

Environment environment_of(int process) {
  Environment environment;
  const std::string text = contents(str("/proc/", process, "/environ"));
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\0', begin), text.size());
    const std::string entry = text.substr(begin, end - begin);
    const size_t equals = entry.find('=');
    if (equals != std::string::npos) environment[entry.substr(0, equals)] = entry.substr(equals + 1);
    begin = end + 1;
  }
  return environment;
}

std::string own_job() {
  return job_of([](const char* name) { return std::getenv(name); }, getsid(0));
}

// The processes of each rank of this job, without this one. A wrapper and what it has started may both be there.
std::map<int, std::vector<Process>> processes_by_rank() {
  std::map<int, std::vector<Process>> found;
  const std::string job = own_job();
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    const std::string name = entry.path().filename();
    int id = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), id);
    if (error != std::errc() || end != name.data() + name.size() || id == getpid()) continue;
    const std::optional<Process> process = find_process(id);
    const Environment environment = environment_of(id);
    if (!process || environment.empty()) continue;
    const Variable variable = [&](const char* key) {
      const auto value = environment.find(key);
      return value == environment.end() ? nullptr : value->second.c_str();
    };
    if (job_of(variable, process->session) != job) continue;
    try {
      const LauncherClaim claim = read_launcher(variable);
      if (!claim.launcher.empty()) found[claim.rank].push_back(*process);
    } catch (const Error&) {
      // Its variables are no ranks.
    }
  }
  return found;
}

std::string trouble_of_rank(int rank, const std::vector<Process>& processes, const std::string& own_program) {
  const auto live = [](const Process& process) { return !has_ended(process.state); };
  if (std::ranges::none_of(processes, live)) return str("no process of rank ", rank, " is on this machine");
  for (const Process& process : processes)
    if (is_stopped(process.state)) return str("rank ", rank, " (process ", process.id, ") is stopped");
  const auto same = [&](const Process& process) { return live(process) && process.program == own_program; };
  if (std::ranges::any_of(processes, same)) return "";
  const Process& other = *std::ranges::find_if(processes, live);
  return str("rank ", rank, " (process ", other.id, ") runs '", other.program, "', not this program");
}

}  // namespace

std::string trouble_of_process(int process) {
  if (process == 0) return "";
  const std::optional<Process> found = find_process(process);
  if (!found || has_ended(found->state)) return str(" (process ", process, " has ended)");
  return is_stopped(found->state) ? str(" (process ", process, " is stopped)") : "";
}

std::string trouble_of_job() {
  constexpr int kNamed = 8;
  const LauncherClaim claim = read_launcher();
  const auto processes = processes_by_rank();
  const int last = processes.empty() ? -1 : processes.rbegin()->first;
  const std::optional<Process> self = find_process(getpid());
  std::string text;
  int troubled = 0;
  for (int rank = 0; rank < std::max(claim.size, last + 1); ++rank) {
    if (rank == claim.rank) continue;
    const auto found = processes.find(rank);
    const std::string trouble = trouble_of_rank(rank, found == processes.end() ? std::vector<Process>() : found->second,
                                                self ? self->program : "");
    if (trouble.empty() || ++troubled > kNamed) continue;
    text += str(text.empty() ? "" : "; ", trouble);
  }
  if (troubled > kNamed) text += str("; and ", troubled - kNamed, " more ranks like these");
  return text.empty() ? "the processes of all other ranks are there and run" : text;
}

// The name in the abstract namespace goes with the last process that holds it, so that nothing is left behind.
Spokesman::Spokesman() {
  socket_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = str("lockstep speaks for ", own_job()).substr(0, sizeof address.sun_path - 1);
  std::ranges::copy(name, address.sun_path + 1);
  const auto length = socklen_t(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  // Where there are no such names it is better to say something twice than never.
  may_speak_ =
      socket_ < 0 || bind(socket_, reinterpret_cast<const sockaddr*>(&address), length) == 0 || errno != EADDRINUSE;
}

Spokesman::~Spokesman() {
  if (socket_ >= 0) close(socket_);
}

}  // namespace lockstep
