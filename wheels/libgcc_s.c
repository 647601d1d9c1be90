/* What the modules take of libgcc_s.so.1, to link against: of the real one there is none for another machine. zig would link a
   static unwinder of its own instead, and die when glibc unwinds a daemon thread with the real one as the process ends. */
#define STUB(name) \
    void name(void) {}
STUB(_Unwind_Backtrace)
STUB(_Unwind_DeleteException)
STUB(_Unwind_ForcedUnwind)
STUB(_Unwind_GetCFA)
STUB(_Unwind_GetDataRelBase)
STUB(_Unwind_GetGR)
STUB(_Unwind_GetIP)
STUB(_Unwind_GetIPInfo)
STUB(_Unwind_GetLanguageSpecificData)
STUB(_Unwind_GetRegionStart)
STUB(_Unwind_GetTextRelBase)
STUB(_Unwind_RaiseException)
STUB(_Unwind_Resume)
STUB(_Unwind_Resume_or_Rethrow)
STUB(_Unwind_SetGR)
STUB(_Unwind_SetIP)
