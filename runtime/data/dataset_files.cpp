// SPDX-License-Identifier: Apache-2.0
#include "runtime/data/dataset_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <filesystem>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/device/check.h"
#include "runtime/data/idx.h"
#include "runtime/files/file_descriptor.h"

namespace lockstep {
namespace {

struct Part {
  std::string_view ending;
  std::string DatasetFiles::*path;
};
constexpr Part kParts[] = {
    {"train-images-idx3-ubyte", &DatasetFiles::train_images}, {"train-labels-idx1-ubyte", &DatasetFiles::train_labels},
    {"t10k-images-idx3-ubyte", &DatasetFiles::test_images},   {"t10k-labels-idx1-ubyte", &DatasetFiles::test_labels},
    {"test-images-idx3-ubyte", &DatasetFiles::test_images},   {"test-labels-idx1-ubyte", &DatasetFiles::test_labels}};
constexpr size_t kFiles = 4;  // the first parts have the names that messages tell

// Lower case, and one kind of separator.
std::string usual_form(std::string text) {
  for (char& c : text) {
    c = char(std::tolower(static_cast<unsigned char>(c)));
    if (c == '_' || c == '.') c = '-';
  }
  return text;
}

// A name without the separator that it ends with.
std::string without_separator(std::string name) {
  if (name.ends_with('-')) name.pop_back();
  return name;
}

bool is_folder(const std::string& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) == 0) return S_ISDIR(status.st_mode);
  if (errno != ENOENT && errno != ENOTDIR) fail_file("look at", path, errno);
  return false;
}

std::vector<std::string> names_in(const std::string& folder) {
  std::error_code error;
  std::vector<std::string> names;
  std::filesystem::directory_iterator entries(folder, error);
  for (; !error && entries != std::filesystem::directory_iterator(); entries.increment(error))
    names.push_back(entries->path().filename());
  if (error) fail_file("list the folder", folder, error.value());
  std::ranges::sort(names);
  return names;
}

struct DataSet {
  std::string beginning;  // as the first of its files has it
  std::vector<std::string> files[kFiles];
};

size_t number_of(std::string DatasetFiles::*path) {
  return size_t(std::ranges::find(kParts, path, &Part::path) - std::begin(kParts));
}

// Returns the data sets of a folder by the beginnings of their names in the usual form.
std::map<std::string, DataSet> data_sets_in(const std::string& folder) {
  std::map<std::string, DataSet> found;
  for (const std::string& name : names_in(folder)) {
    std::string form = usual_form(name);
    if (form.ends_with("-gz")) form.resize(form.size() - 3);
    for (const Part& part : kParts) {
      if (!form.ends_with(part.ending)) continue;
      const std::string beginning = form.substr(0, form.size() - part.ending.size());
      if (!beginning.empty() && !beginning.ends_with('-')) continue;
      DataSet& set = found[without_separator(beginning)];
      if (set.beginning.empty()) set.beginning = name.substr(0, beginning.size());
      set.files[number_of(part.path)].push_back(name);
    }
  }
  return found;
}

std::string in(const std::string& folder, const std::string& name) {
  return folder.ends_with('/') ? folder + name : str(folder, "/", name);
}

// Returns the data set that `where` means, and the folder of its files.
std::pair<std::string, DataSet> choose(const std::string& where) {
  if (is_folder(where)) {
    std::map<std::string, DataSet> found = data_sets_in(where);
    if (const auto plain = found.find(""); plain != found.end()) return {where, plain->second};
    check(found.size() <= 1, ErrorCode::data, [&] {
      std::string list;
      for (const auto& [name, set] : found) list += str(list.empty() ? "" : ", ", name);
      return str("'", where, "' has several data sets: ", list, "; name one, such as --data ",
                 in(where, found.begin()->first));
    });
    return {where, found.empty() ? DataSet() : found.begin()->second};
  }
  const size_t slash = where.rfind('/');
  const std::string folder = slash == where.npos ? "." : where.substr(0, std::max<size_t>(slash, 1));
  if (is_folder(folder)) {
    std::map<std::string, DataSet> found = data_sets_in(folder);
    const std::string form = without_separator(usual_form(where.substr(slash == where.npos ? 0 : slash + 1)));
    if (const auto named = found.find(form); named != found.end() && !form.empty()) return {folder, named->second};
  }
  return {where, DataSet()};
}

}  // namespace

DatasetFiles find_dataset_files(const std::string& where) {
  const std::pair<std::string, DataSet> chosen = choose(where);
  const std::string& folder = chosen.first;
  const DataSet& set = chosen.second;
  DatasetFiles files;
  for (size_t i = 0; i < kFiles; ++i) {
    const std::vector<std::string>& names = set.files[i];
    check(!names.empty(), ErrorCode::file, [&] {
      return str("expected the data file '", in(folder, set.beginning + std::string(kParts[i].ending)),
                 ".gz', found nothing there; ", kDatasetRemedy);
    });
    check(names.size() == 1, ErrorCode::data, [&] {
      return str("'", folder, "' has both '", names[0], "' and '", names[1], "', expected one of them; move one away");
    });
    files.*kParts[i].path = in(folder, names[0]);
  }
  return files;
}

}  // namespace lockstep
