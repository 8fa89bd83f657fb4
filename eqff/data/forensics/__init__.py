"""Label forensics: measurements that show whether the labels of a data set fit its structures."""
