// SPDX-License-Identifier: Apache-2.0
// Finds the four files of a data set by their names, which differ a little from one distribution to the next.
#pragma once

#include <string>

namespace lockstep {

struct DatasetFiles {
  std::string train_images, train_labels, test_images, test_labels;  // paths
};

// `where` is a folder, or a folder and the beginning of names in it ("data/emnist-letters"), which a folder of several
// data sets needs. Names are [BEGINNING-]{train,t10k,test}-{images-idx3,labels-idx1}-ubyte[.gz], in any case and with
// '-', '_' or '.' between their parts. Throws Error(file) for a file that is not there and for a folder that cannot be
// read, Error(data) where several files or data sets could be meant.
DatasetFiles find_dataset_files(const std::string& where);

}  // namespace lockstep
