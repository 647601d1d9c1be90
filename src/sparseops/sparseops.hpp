// SPDX-License-Identifier: BSD-3-Clause
// All public headers.
#pragma once

#include "bag.hpp"
#include "cluster.hpp"
#include "dropout.hpp"
#include "hierarchy.hpp"
#include "hsoftmax.hpp"
#include "linear.hpp"
#include "model_file.hpp"
#include "normalize.hpp"
#include "quantize.hpp"
#include "runtime.hpp"
#include "search.hpp"
#include "text.hpp"
#include "types.hpp"
#include "update.hpp"
#include "weights.hpp"
