// HybridNorm's switch by layer, a Python dict in a string: "_{0:{'attn_norm':True,'ffn_residual':False}}_".
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace norma {

using OlmoLayerFlags = std::map<std::int64_t, std::map<std::string, bool>>;

// Whole numbers as keys, quoted words and True or False inside; nothing is evaluated. "" means no layer. Throws
// DataError naming `where` and the place of the first character that is something else.
OlmoLayerFlags parse_layer_flags(const std::string& text, const std::string& where);

}  // namespace norma
