#include "runtime/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "aft/error.h"

namespace aft {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const std::string &what, const std::string &path, int code) {
    std::string advice;
    if (code == ENOSPC || code == EDQUOT) advice = "; free some space, or choose another folder";
    if (code == EACCES || code == EROFS) advice = "; choose a place where you may write, or change the permissions";
    throw Error("cannot " + what + " '" + path + "': " + std::generic_category().message(code) + advice);
}

[[noreturn]] void fail(const std::string &what, const std::string &path) { fail(what, path, errno); }

std::string folder_of(const std::string &path) {
    const fs::path folder = fs::path(path).parent_path();
    return folder.empty() ? "." : folder.string();
}

std::string temporary_for(const std::string &path) {
    static std::atomic<int> count = 0;
    return path + temporary_mark + std::to_string(getpid()) + "-" + std::to_string(count++);
}

// Where a link leads, so that a rename does not replace the link. A link to nothing yet is left as it is.
std::string resolve(const std::string &path) {
    char *real = realpath(path.c_str(), nullptr);
    if (!real) return path;
    std::string text = real;
    std::free(real);
    return text;
}

}  // namespace

InputFile::InputFile(const std::string &path) : path_(path), descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (descriptor_ < 0) fail("open", path);
    struct stat info {};
    const bool known = fstat(descriptor_, &info) == 0;
    if (!known || !S_ISREG(info.st_mode)) {
        const int code = errno;
        close(descriptor_);
        if (!known) fail("look at", path, code);
        throw Error("'" + path + "' is " + (S_ISDIR(info.st_mode) ? "a folder" : "no plain file") + "; a file is needed here");
    }
    size_ = uint64_t(info.st_size);
}

InputFile::~InputFile() { close(descriptor_); }

void InputFile::read(uint64_t offset, void *to, size_t bytes) const {
    auto *next = static_cast<char *>(to);
    while (bytes > 0) {
        const ssize_t got = pread(descriptor_, next, bytes, off_t(offset));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) fail("read", path_);
        if (got == 0) throw Error("'" + path_ + "' ends at byte " + std::to_string(offset) + "; it was cut while it was read");
        next += got, offset += uint64_t(got), bytes -= size_t(got);
    }
}

std::string read_file(const std::string &path, uint64_t most_bytes) {
    const InputFile file(path);
    if (file.size() > most_bytes)
        throw Error("'" + path + "' has " + std::to_string(file.size()) + " bytes; at most " + std::to_string(most_bytes) + " are read here");
    std::string text(file.size(), '\0');
    file.read(0, text.data(), text.size());
    return text;
}

AtomicFile::AtomicFile(const std::string &path) : path_(resolve(path)) {
    struct stat info {};
    const bool exists = stat(path_.c_str(), &info) == 0;
    if (exists && S_ISDIR(info.st_mode)) throw Error("cannot write '" + path_ + "': there is a folder of this name");
    if (exists && !S_ISREG(info.st_mode)) {
        descriptor_ = open(path_.c_str(), O_WRONLY | O_CLOEXEC);
    } else {
        temporary_ = temporary_for(path_);
        descriptor_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    }
    if (descriptor_ < 0) {
        const int code = errno;
        temporary_.clear();
        fail("write", path_, code);
    }
}

AtomicFile::~AtomicFile() {
    if (descriptor_ >= 0) close(descriptor_);
    if (!temporary_.empty()) unlink(temporary_.c_str());
}

void AtomicFile::write(const void *data, size_t bytes) {
    const auto *next = static_cast<const char *>(data);
    while (bytes > 0) {
        const ssize_t put = ::write(descriptor_, next, bytes);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) fail("write", path_);
        next += put, bytes -= size_t(put);
    }
}

void AtomicFile::commit() {
    const bool plain = !temporary_.empty();
    if (plain && fsync(descriptor_) != 0) fail("write", path_);
    const int closed = close(descriptor_);
    descriptor_ = -1;
    if (closed != 0) fail("write", path_);
    if (!plain) return;
    if (rename(temporary_.c_str(), path_.c_str()) != 0) fail("write", path_);
    temporary_.clear();
    sync_folder(folder_of(path_));
}

void write_file_atomic(const std::string &path, std::string_view text) {
    AtomicFile file(path);
    file.write(text);
    file.commit();
}

AtomicFolder::AtomicFolder(const std::string &path) : path_(path), temporary_(temporary_for(path)) {
    if (mkdir(temporary_.c_str(), 0777) != 0) {
        const int code = errno;
        temporary_.clear();
        fail("make the folder", path, code);
    }
}

AtomicFolder::~AtomicFolder() {
    std::error_code ignored;
    if (!temporary_.empty()) fs::remove_all(temporary_, ignored);
}

void AtomicFolder::publish() {
    sync_folder(temporary_);
    // A folder cannot be renamed over one that is not empty: what is there goes out of the way first.
    std::string old;
    if (fs::exists(path_)) {
        old = temporary_for(path_);
        if (rename(path_.c_str(), old.c_str()) != 0) fail("replace", path_);
    }
    if (rename(temporary_.c_str(), path_.c_str()) != 0) {
        const int code = errno;
        if (!old.empty()) (void)!rename(old.c_str(), path_.c_str());
        fail("make the folder", path_, code);
    }
    temporary_.clear();
    sync_folder(folder_of(path_));
    std::error_code ignored;
    if (!old.empty()) fs::remove_all(old, ignored);
}

void make_folders(const std::string &path) {
    std::error_code error;
    fs::create_directories(path, error);
    if (error) fail("make the folder", path, error.value());
    if (!fs::is_directory(path)) throw Error("cannot make the folder '" + path + "': there is a file of this name");
}

void check_writable(const std::string &folder) {
    make_folders(folder);
    // access() would say yes to root on a read-only or full disk: only a written byte is proof.
    AtomicFile probe(folder + "/.writable");
    probe.write("aft");
    probe.commit();
    unlink((folder + "/.writable").c_str());
}

FolderLock::FolderLock(const std::string &folder, const std::string &busy) {
    const std::string name = folder + "/.lock";
    descriptor_ = open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor_ < 0) fail("open", name);
    if (flock(descriptor_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
    close(descriptor_);
    throw Error(busy);
}

FolderLock::~FolderLock() { close(descriptor_); }

void sync_folder(const std::string &folder) {
    const int descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) fail("open the folder", folder);
    const int synced = fsync(descriptor), code = errno;
    close(descriptor);
    if (synced != 0 && code != EINVAL) fail("sync the folder", folder, code);  // EINVAL: a file system without it
}

void remove_temporaries(const std::string &folder) {
    std::error_code error;
    for (const auto &entry : fs::directory_iterator(folder, error))
        if (entry.path().filename().string().find(temporary_mark) != std::string::npos) {
            std::error_code ignored;
            fs::remove_all(entry.path(), ignored);
        }
}

}  // namespace aft
