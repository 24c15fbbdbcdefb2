// Files as a training program needs them: errors that name the path and the reason, reads with limits, and writes that
// are all or nothing. A new file is written under a temporary name beside the old one, synced, and renamed over it; a
// folder is filled under a temporary name and renamed whole. So a kill at any moment leaves the old state or the new one.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace aft {

/// What stands in temporary names; everything that holds it may be deleted when no program writes there.
inline constexpr const char *temporary_mark = ".tmp-";

/// A file opened for reading. Its size is that of the moment of opening; a file that shrinks later is an Error on read.
class InputFile {
public:
    explicit InputFile(const std::string &path);  ///< throws Error for a missing file, a folder, no permission
    ~InputFile();
    InputFile(const InputFile &) = delete;
    InputFile &operator=(const InputFile &) = delete;

    const std::string &path() const { return path_; }
    uint64_t size() const { return size_; }
    void read(uint64_t offset, void *to, size_t bytes) const;

private:
    std::string path_;
    int descriptor_ = -1;
    uint64_t size_ = 0;
};

/// The whole file; throws Error when it is larger than `most_bytes`.
std::string read_file(const std::string &path, uint64_t most_bytes);

/// A file that appears under its name, complete and on disk, at commit(); without commit it never does. Links are
/// followed; something that is no plain file (a pipe, /dev/null) is written in place.
class AtomicFile {
public:
    explicit AtomicFile(const std::string &path);
    ~AtomicFile();
    AtomicFile(const AtomicFile &) = delete;
    AtomicFile &operator=(const AtomicFile &) = delete;

    void write(const void *data, size_t bytes);
    void write(std::string_view text) { write(text.data(), text.size()); }
    void commit();

private:
    std::string path_, temporary_;
    int descriptor_ = -1;
};

void write_file_atomic(const std::string &path, std::string_view text);

/// A folder that appears under its name at publish(); what stood there before is replaced. Without publish it is deleted.
class AtomicFolder {
public:
    explicit AtomicFolder(const std::string &path);
    ~AtomicFolder();
    AtomicFolder(const AtomicFolder &) = delete;
    AtomicFolder &operator=(const AtomicFolder &) = delete;

    const std::string &path() const { return temporary_; }  ///< where to put the files
    void publish();

private:
    std::string path_, temporary_;
};

/// Creates the folder and its parents when they are missing.
void make_folders(const std::string &path);

/// Creates the folder when it is missing and throws Error when a file cannot be made in it.
void check_writable(const std::string &folder);

/// A lock on a folder, for as long as the object lives; another program's is an Error that says `busy`. The kernel lets go of it
/// when the program dies. Where files cannot be locked, there is none.
class FolderLock {
public:
    FolderLock(const std::string &folder, const std::string &busy);
    ~FolderLock();
    FolderLock(const FolderLock &) = delete;
    FolderLock &operator=(const FolderLock &) = delete;

private:
    int descriptor_ = -1;
};

/// Makes renames and new names in this folder durable.
void sync_folder(const std::string &folder);

/// Deletes temporaries that a killed program left in this folder.
void remove_temporaries(const std::string &folder);

}  // namespace aft
